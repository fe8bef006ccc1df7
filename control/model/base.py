"""What every other type here is made of: address ranges, what is wrong with a document, what labels are called."""

import dataclasses
from typing import NamedTuple

NAMESPACE_KEY = "io.kubernetes.pod.namespace"
NAMESPACE_LABEL_PREFIX = "io.cilium.k8s.namespace.labels."
SERVICE_ACCOUNT_KEY = "io.cilium.k8s.policy.serviceaccount"
CLUSTER_KEY = "io.cilium.k8s.policy.cluster"
CLUSTER_NAME = "default"
NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"  # Kubernetes puts it on every namespace


class TooMuch(ValueError):
    """Documents that are right, but ask for more than there is room for, or than could be worked out."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that its author must mend; `str()` is the line that people read. `path` is for them: it names the
    document, or the object, too; `within` is what of it stands inside that.
    """

    file: str
    path: str
    message: str
    line: int = 0
    effect: str = ""  # what is in force in the meantime
    within: str = dataclasses.field(default="", compare=False)

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        line = ": ".join(part for part in (place, self.path, self.message) if part)
        return f"{line}; {self.effect}" if self.effect else line


class Prefix(NamedTuple):
    """An address range; sorts by address, then by length, so that what a range contains comes right behind it."""

    version: int
    address: int
    length: int

    @property
    def last(self) -> int:
        """The highest address in the range."""
        return self.address | ((1 << ((32 if self.version == 4 else 128) - self.length)) - 1)

    def contains(self, other: "Prefix") -> bool:
        """Tell whether every address of other lies in this range."""
        return (
            self.version == other.version
            and self.length <= other.length
            and (self.address <= other.address <= self.last)
        )
