"""Errors that name who must act. The CLI prints them as one sentence, never as a traceback."""


class MeshError(Exception):
    """Base of every error that a person can act on."""


class FeatureUnsupported(MeshError):
    """The operator's kernel lacks something: which feature, the minimum kernel, what to do."""


class PrivilegeMissing(MeshError):
    """The operator must give this process a capability or run it as root."""


class PackageMissing(MeshError):
    """The operator must install a package: the message names it."""


class ProgramRejected(MeshError):
    """Ours: a BPF program did not compile or load; `.log` holds the compiler's or verifier's whole output."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class LayoutMismatch(MeshError):
    """Ours: a pinned map or a compiled struct is not the layout that loader/abi/ declares."""


class MapFull(MeshError):
    """The operator must shorten what fills the map: which map, how many entries it takes."""


class AttachFailed(MeshError):
    """The operator must look at a cgroup, interface or network namespace: which one, and what the kernel said."""


class CgroupFailed(AttachFailed):
    """As AttachFailed: a workload's cgroup cannot have hooks, so that only its packets are under policy."""


class AgentUnavailable(MeshError):
    """The operator must start the agent or give the right socket path."""


class ConfigInvalid(MeshError):
    """The author of a file must mend it: one line per problem, "file: path: what is wrong (what is allowed)"."""


class StartEnded(MeshError):
    """Nobody: somebody told the agent to end before its programs were there."""
