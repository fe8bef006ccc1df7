"""How much may be compared for one answer: what files say can be of any size, and it multiplies."""


class Enough(Exception):
    """There were as many comparisons as there may be."""


class Effort:
    """Counts comparisons."""

    def __init__(self, most: int) -> None:
        self._left = most

    def spend(self, comparisons: int) -> None:
        """Count comparisons that are about to be made; raises Enough."""
        self._left -= comparisons
        if self._left < 0:
            raise Enough
