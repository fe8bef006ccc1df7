"""The part of the proxy that runs for each request may be compiled (mypyc): which modules those are, and whether it is.

A compiled module stands beside its source and is what Python imports. `make compile` makes them; without them all is
the same, only slower. `is_compiled` is asked before a proxy or a test starts: what was compiled from another source
than the one that people read must not run.
"""

import hashlib
import sysconfig
from pathlib import Path

from loader.errors import ConfigInvalid

ROOT = Path(__file__).resolve().parents[1]
GROUP = "l7proxy.compiled"  # the library that the modules share
_HOT = (
    "exchange.py", "http.py", "refusal.py", "tunnel.py", "edge/door.py", "edge/link.py", "edge/telling.py",
    "http1/[a-z]*.py", "http2/[a-z]*.py", "mesh/carrier.py", "mesh/frames.py", "mesh/stream.py", "policy/requests.py",
    "tls/[a-z]*.py",
)  # fmt: skip
_SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
_RECORD = Path(__file__).with_suffix(".sha256")  # of the sources that were compiled


def sources() -> list[Path]:
    """Return the files that are compiled, all into one library."""
    return [path for pattern in _HOT for path in sorted(Path(__file__).parent.glob(pattern))]


def built() -> list[Path]:
    """Return what this Python would import in their place, and the library that these share."""
    return sorted(Path(__file__).parent.rglob(f"*{_SUFFIX}"))


def digest() -> str:
    """Return what tells these sources from others."""
    found = hashlib.sha256()
    for path in sources():
        found.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return found.hexdigest()


def record(source: str) -> None:
    """Write down of which sources what is built is: their digest from before."""
    _RECORD.write_text(f"{source}\n")


def clean() -> None:
    """Take away what was built."""
    for path in (_RECORD, *built()):  # the record first: half of it must not pass for the whole
        path.unlink(missing_ok=True)


def is_compiled() -> bool:
    """Tell whether the proxy runs compiled; raises ConfigInvalid where that would be another source's."""
    found = built()
    if not found:
        return False
    if len(found) != len(sources()) + 1 or not _RECORD.exists() or _RECORD.read_text().strip() != digest():
        raise ConfigInvalid(
            f"{found[0].relative_to(ROOT)}: compiled from another source than the one beside it: run `make compile`, "
            "or `make clean` to go on without"
        )
    return True
