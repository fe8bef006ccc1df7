"""A step that is done when somebody asks for it, at the end at the latest, and once."""

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Once(Generic[T]):
    """`run` raises nothing: whoever asks for it in the middle of something must go on. `result` does."""

    def __init__(self, step: Callable[[], T]) -> None:
        self._step = step
        self._outcome: list[T] = []
        self._error: Exception | None = None

    def run(self) -> None:
        """Do it, if it is not done."""
        if self._outcome or self._error:
            return
        try:
            self._outcome.append(self._step())
        except Exception as error:  # raised by `result`
            self._error = error

    def result(self) -> T:
        """Do it, if it is not done; return what came of it, or raise it."""
        self.run()
        if self._error:
            raise self._error
        return self._outcome[0]
