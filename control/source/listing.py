"""What a directory of configuration has in it: which names are files of ours, and whether any of them changed."""

import itertools
import os
from collections.abc import Iterator

ENDINGS = (".yaml", ".yml", ".json")
OTHER_ENDING = f"is not read: its name must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}, in lower case"
_MOST_BELOW = 100  # directories below a subdirectory in which files are looked for

Path = str | os.PathLike[str]


def is_ours(name: str) -> bool:
    """Tell whether a file of this name is read."""
    return name.endswith(ENDINGS) and not name.startswith(".")


def is_misspelt(name: str) -> bool:
    """Tell whether a file is not read only because its ending is not in lower case."""
    return not is_ours(name) and is_ours(name.lower())


def read(directory: Path) -> tuple[list[str], list[str], list[str]]:
    """Return the files that are ours, the subdirectories that are not read though such files are below them, and what
    is misspelt; each sorted. Raises OSError.

    Hidden ones are somebody's own business, as Kubernetes' `..data` is, and a link may lead anywhere.
    """
    files, inner, misspelt = [], [], []
    with os.scandir(directory) as entries:
        for entry in entries:
            if is_ours(entry.name):
                files.append(entry.name)
            elif not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                inner.append(entry.name)
            elif is_misspelt(entry.name):
                misspelt.append(entry.name)
    below = (name for name in inner if _has_files(os.path.join(directory, name)))
    return sorted(files), sorted(below), sorted(misspelt)


def _has_files(directory: str) -> bool:
    return any(is_ours(name) for names in itertools.islice(_below(directory), _MOST_BELOW) for name in names)


def _below(directory: str) -> Iterator[list[str]]:
    for _, inner, names in os.walk(directory):
        inner[:] = [name for name in inner if not name.startswith(".")]
        yield names


def state(directory: Path) -> int | None:
    """Return a number that is another one once a file of ours is edited, comes or goes; None: it cannot be read.

    It goes by what stat(2) tells of each file, wherever a link leads to, so it knows of edits that happen elsewhere.
    """
    try:
        files, *unread = read(directory)
    except OSError:
        return None
    out = hash(tuple(map(tuple, unread)))
    prefix = os.path.join(directory, "")
    for name in files:
        try:
            out ^= hash((name, identity(os.stat(prefix + name))))
        except OSError as error:
            out ^= hash((name, error.errno))
    return out


def identity(found: os.stat_result) -> tuple[int, ...]:
    """Return what is another for a file that was written to, or is another."""
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev
