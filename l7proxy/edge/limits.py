"""How much one worker of the node proxy grants its clients, so that no pod starves another."""

import contextlib
import resource
from typing import NamedTuple

_OTHER_FILES = 64  # of a worker's own: its feed, its doors, its event loop's
_FILES_EACH = 2  # a connection's two ends
_MOST_FILES = 1 << 20  # fs.nr_open, as kernels have it


class Limits(NamedTuple):
    """`connections`: of one source identity; `all_connections`: of everybody. Times in seconds.

    `header_s`: a request's head, from its first byte to its last; `idle_s`: a connection without a byte either way;
    `drain_s`: what is under way when the worker is to end. `header_bytes`: of a request's head.
    """

    connections: int = 20_000
    all_connections: int = 1 << 20
    header_s: float = 30.0
    idle_s: float = 3600.0
    drain_s: float = 30.0
    header_bytes: int = 64 << 10

    def for_one_of(self, workers: int, files: int) -> "Limits":
        """Return a worker's share, which may open so many files: half of what they allow, at most, to one identity.

        >>> Limits(connections=1000).for_one_of(workers=2, files=264)
        Limits(connections=50, all_connections=100, header_s=30.0, idle_s=3600.0, drain_s=30.0, header_bytes=65536)
        """
        everybody = min(self.all_connections, max(1, (files - _OTHER_FILES) // _FILES_EACH))
        share = -(-self.connections // workers)
        return self._replace(connections=max(1, min(share, everybody // 2)), all_connections=everybody)


def raise_open_files() -> int:
    """Raise this process's limit of open files as far as it may be, and return it; its children inherit it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # it takes CAP_SYS_RESOURCE
        wanted = max(most, _MOST_FILES) if most != resource.RLIM_INFINITY else most
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
        most = wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most if most != resource.RLIM_INFINITY else _MOST_FILES
