"""Attaches the node proxy's own programs: to its interface, its network namespace and its cgroup."""

from loader import attach as links
from loader import filters, mesh, programs
from loader.errors import AttachFailed, CgroupFailed
from loader.interception.ground import OWNER, Ground


def attach(loaded: mesh.Mesh, ground: Ground) -> None:
    """Hang them on the ground, or put them in one step each behind what hangs there; raises AttachFailed."""
    door, *inside = (programs.PROGRAM_BY_NAME[name] for name in ("to_door", "who_asks", "sockops"))
    sides = {programs.Target.INGRESS: "from_proxy", programs.Target.EGRESS: "toward_proxy"}
    filters.put(
        ground.interface,
        ground.ifindex,
        {target: (loaded.pin_dir / "progs" / name, loaded.program(name)) for target, name in sides.items()},
    )
    links.namespace(loaded.pin_dir, OWNER, str(ground.netns), door, loaded.program(door.function))
    try:
        for spec in inside:
            links.cgroup(loaded.pin_dir, OWNER, ground.cgroup, spec, loaded.program(spec.function))
    except CgroupFailed as error:  # it is no workload's, so its packets alone are not enough
        raise AttachFailed(f"the node proxy: cannot tell it who asks: {error}") from error
