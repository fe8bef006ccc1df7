"""`sockmesh uninstall`: takes hooks, pins and state away."""

import contextlib
import os
import shutil
import socket
from collections.abc import Collection, Iterator
from pathlib import Path

import click

from control import terminal
from control.agent import kept, lastgood, namebook
from control.cli.place import Place, place_options
from control.flow.summary import counted
from loader import locking, numbers
from loader.errors import AttachFailed, MeshError

LOCK = "agent.lock"
STATE_FILES = (
    "state.json", "names.json", "selftest.json", "programs.sha256", "layout.sha256", "agent.sock", LOCK,
    "proxy.lock", "proxy-doors.sock", ".proxy-doors.sock", lastgood.NAME, namebook.NAME,
)  # fmt: skip
STATE_DIRS = ("headers", kept.DIRECTORY)
_PINS = ("maps", "progs", "links", "staging")
_SHOWN = 4


@click.command()
@click.option("--pins", is_flag=True, help="Yes: remove the mesh from the kernel.")
@click.option("--force", is_flag=True, help="Also when none of its packet filters is in this network namespace.")
@place_options
def uninstall(pins: bool, force: bool, pin_dir: Path, run_dir: Path) -> None:
    """Remove an agent's hooks, pinned maps, programs and state: from then on NO POLICY is in force on its pods.

    Run it in the agent's network namespace, after the agent was stopped; packet hooks are on interfaces there.
    """
    if not pins:
        raise click.UsageError("nothing was removed: give --pins to confirm that policy may end on this node")
    from loader import filters, mesh, mounts, selftest

    here = filters.found(pin_dir)
    if not any((pin_dir / name).exists() for name in _PINS):
        if here:  # left where another network namespace was uninstalled
            filters.remove(here, pin_dir)
            click.echo(f"removed: {_filters(here)}; nothing else of {pin_dir} was there any more")
            return
        click.echo(f"nothing is pinned under {pin_dir}: there is nothing to remove (another place: --pin-dir)")
        return
    had_state = any((run_dir / name).exists() for name in (*STATE_FILES, *STATE_DIRS))
    with _agent_kept_out(run_dir, pin_dir):
        elsewhere = _elsewhere(Place(pin_dir, run_dir), here)
        if elsewhere and not force:
            raise AttachFailed(
                f"none of the endpoints' interfaces ({_few(elsewhere)}) is in this network namespace with a packet "
                "filter of this agent: run it where the agent ran (nsenter --net=FILE sockmesh uninstall --pins), or "
                "with --force if those pods are gone"
            )
        mesh.uninstall(pin_dir, run_dir, here)
        selftest.sweep_cgroups(mounts.cgroup2())
        _remove_state(run_dir)
    state = f"the state in {run_dir}" if had_state else ""
    if elsewhere:
        removed = " and ".join(filter(None, (str(pin_dir), state)))
        click.echo(
            f"removed: {removed}; NOT the packet filters of {counted(len(elsewhere), 'endpoint')} ({_few(elsewhere)}): "
            "none was found in this network namespace, and where those pods live they go on dropping what they drop "
            "until `sockmesh uninstall --pins` is run there"
        )
    else:
        removed = " and ".join(filter(None, (f"hooks, {pin_dir}", state)))
        click.echo(f"removed: {removed}; no policy is in force any more")
    if not had_state:
        click.echo(f"no state of an agent was in {run_dir} (another place: --run-dir)")


def _filters(ifindexes: Collection[int]) -> str:
    named = dict(socket.if_nameindex())
    return f"the packet filters on {_few([named.get(index, str(index)) for index in ifindexes])}"


def _few(shown: Collection[str]) -> str:
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return terminal.printable(", ".join(sorted(shown)[:_SHOWN])) + more


@contextlib.contextmanager
def _agent_kept_out(run_dir: Path, pin_dir: Path) -> Iterator[None]:
    """Hold the agent's locks; raises AttachFailed while an agent has one: it may have another run directory.

    Of a run directory that is made for it nothing stays.
    """
    for directory, file in ((run_dir, run_dir / LOCK), (pin_dir, pin_dir)):
        if (pid := locking.holder(file)) is not None:
            raise AttachFailed(f"{directory}: the agent{f' (pid {pid})' if pid else ''} still runs: stop it first")
    is_new = not (run_dir / LOCK).exists()
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    locks = [locking.take(run_dir, run_dir / LOCK, os.O_RDWR | os.O_CREAT)]
    try:
        locks.append(locking.take(pin_dir, pin_dir, os.O_RDONLY | os.O_DIRECTORY))
        yield
    finally:
        if is_new:
            (run_dir / LOCK).unlink(missing_ok=True)
        for lock in locks:
            os.close(lock)
        with contextlib.suppress(OSError):  # it holds what is another's, or an agent's that stays
            run_dir.rmdir()


def _elsewhere(place: Place, here: Collection[int]) -> list[str]:
    """Return the interfaces of the endpoints if on none of them a filter of ours is `here`, by their names if these are
    known: hooks there would stay for ever. Only the filters tell: an interface may have the same name and number in
    another network namespace, and names can be lost.
    """
    names = place.names()
    try:
        with place.maps() as opened:
            at = {k.id: v.ifindex for k, v in opened.endpoints.items() if v.ifindex and not numbers.is_reserved(k.id)}
    except MeshError:
        # Maps of another version, or only some of them: of endpoints only the hooks on their cgroups tell.
        hung = {link.name.rpartition("-")[0] for link in (place.pin_dir / "links").glob("endpoint-*")}
        return [] if here else sorted(f"of {endpoint}" for endpoint in hung)
    if any(index in here for index in at.values()):
        return []
    known = ((names.endpoint(id), index) for id, index in at.items())
    return sorted(name.interface if name and name.interface else f"number {index}" for name, index in known)


def _remove_state(run_dir: Path) -> None:
    for name in STATE_FILES:
        (run_dir / name).unlink(missing_ok=True)
    for name in STATE_DIRS:
        shutil.rmtree(run_dir / name, ignore_errors=True)
