"""Paths that people write: whether they can be read is said later, in a better sentence than click's."""

from pathlib import Path
from typing import Any

import click


class _Path(click.Path):
    """A path, and not the current directory, or nothing, where a variable that is not set was written."""

    def __init__(self, path_type: type[Any]) -> None:
        super().__init__(path_type=path_type, readable=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("it is empty (a path; . is the current directory)", param, ctx)
        return super().convert(value, param, ctx)


PATH = _Path(Path)
WORD = _Path(str)  # where - is standard input or output, and messages name a file as it was written
