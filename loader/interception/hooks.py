"""Attaches the node proxy's own programs: to its interface, its network namespace and its cgroup."""

from loader import attach as links
from loader import filters, mesh, programs
from loader.errors import AttachFailed, CgroupFailed
from loader.interception.ground import OWNER, Ground


def attach(loaded: mesh.Mesh, ground: Ground) -> None:
    """Hang them on the ground, or put them in one step each behind what hangs there; raises AttachFailed."""
    sends, door, asks = (programs.PROGRAM_BY_NAME[name] for name in ("from_proxy", "to_door", "who_asks"))
    pinned = loaded.pin_dir / "progs" / sends.function
    filters.put(ground.interface, ground.ifindex, {programs.Target.INGRESS: (pinned, loaded.program(sends.function))})
    links.namespace(loaded.pin_dir, OWNER, str(ground.netns), door, loaded.program(door.function))
    try:
        links.cgroup(loaded.pin_dir, OWNER, ground.cgroup, asks, loaded.program(asks.function))
    except CgroupFailed as error:  # it is no workload's, so its packets alone are not enough
        raise AttachFailed(f"the node proxy: cannot tell it who asks: {error}") from error
