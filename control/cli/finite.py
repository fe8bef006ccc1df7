"""A number on the command line that is one: click's own range lets "nan" through, which is neither below nor above."""

import math
from typing import Any

import click


class FiniteRange(click.FloatRange):
    """A number between two bounds, both allowed."""

    def __init__(self, least: float, most: float) -> None:
        super().__init__(least, most)
        self._bounds = f"{least}<=x<={most}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value} is not in the range {self._bounds}.", param, ctx)
        return number
