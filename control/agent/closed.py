"""What comes into force where nothing was and the configuration does not fit a map: every pod is closed. Pure.

As with a file that is broken at the first start, but of all files at once: nobody can tell which of the policies would
have to go, and without one of them a pod may be open that it was to close.
"""

import dataclasses

from control import model
from control.policy import parse
from control.source import directory

DENY = parse.deny_everything("the configuration")
EFFECT = "nothing of policy is in force yet: until it fits, every pod of this node is closed"


def instead_of(snapshot: model.Snapshot, node: str) -> model.Snapshot:
    """Return the deny on every pod, and the node's own pods: nothing in it grows with the policies or the cluster.

    No file of it is good: what one gave never was in force, and cannot stay.
    """
    return dataclasses.replace(
        snapshot,
        workloads=tuple(w for w in snapshot.workloads if w.is_local(node)),
        policies=(DENY,),
        services=(),
        cidr_groups=(),
        learned={},
        files={
            file: model.FileState("", directory.closed(state.objects), good=False)
            for file, state in snapshot.files.items()
        },
        refused={},
    )


def is_all(snapshot: model.Snapshot | None) -> bool:
    """Tell whether that is what is in force."""
    return snapshot is not None and snapshot.policies == (DENY,)
