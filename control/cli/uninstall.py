"""`sockmesh uninstall`: takes hooks, pins and state away."""

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import click

from control.agent import kept, lastgood, namebook
from control.cli.place import Place, place_options
from loader import locking
from loader.errors import AttachFailed, MeshError

STATE_FILES = (
    "state.json", "names.json", "selftest.json", "programs.sha256", "layout.sha256", "agent.sock", "agent.lock",
    "proxy.lock", "proxy-doors.sock", ".proxy-doors.sock", lastgood.NAME, namebook.NAME,
)  # fmt: skip
STATE_DIRS = ("headers", kept.DIRECTORY)


@click.command()
@click.option("--pins", is_flag=True, help="Yes: remove the mesh from the kernel.")
@click.option("--force", is_flag=True, help="Also when none of its interfaces is in this network namespace.")
@place_options
def uninstall(pins: bool, force: bool, pin_dir: Path, run_dir: Path) -> None:
    """Remove an agent's hooks, pinned maps, programs and state: from then on NO POLICY is in force on its pods.

    Run it in the agent's network namespace, after the agent was stopped; packet hooks are on interfaces there.
    """
    if not pins:
        raise click.UsageError("nothing was removed: give --pins to confirm that policy may end on this node")
    if not any((pin_dir / name).exists() for name in ("maps", "progs", "links", "staging")):
        click.echo(f"nothing is pinned under {pin_dir}: there is nothing to remove (another place: --pin-dir)")
        return
    with _agent_kept_out(run_dir, pin_dir):
        if not force:
            _require_interfaces(Place(pin_dir, run_dir))
        from loader import mesh, mounts, selftest

        mesh.uninstall(pin_dir, run_dir)
        selftest.sweep_cgroups(mounts.cgroup2())
        _remove_state(run_dir)
    with contextlib.suppress(OSError):
        run_dir.rmdir()
    click.echo(f"removed: hooks, {pin_dir} and the state in {run_dir}; no policy is in force any more")


@contextlib.contextmanager
def _agent_kept_out(run_dir: Path, pin_dir: Path) -> Iterator[None]:
    """Hold the agent's locks; raises AttachFailed while an agent has one: it may have another run directory."""
    for directory, file in ((run_dir, run_dir / "agent.lock"), (pin_dir, pin_dir)):
        if (pid := locking.holder(file)) is not None:
            raise AttachFailed(f"{directory}: the agent{f' (pid {pid})' if pid else ''} still runs: stop it first")
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    locks = [locking.take(run_dir, run_dir / "agent.lock", os.O_RDWR | os.O_CREAT)]
    try:
        locks.append(locking.take(pin_dir, pin_dir, os.O_RDONLY | os.O_DIRECTORY))
        yield
    finally:
        for lock in locks:
            os.close(lock)


def _require_interfaces(place: Place) -> None:
    """Raise AttachFailed when the endpoints' interfaces are all somewhere else: their hooks would stay for ever."""
    names = place.names()
    here = dict(socket.if_nameindex())
    try:
        with place.maps() as opened:
            endpoints = [(key.id, value.ifindex) for key, value in opened.endpoints.items() if value.ifindex]
    except MeshError:
        return  # maps of another version or only some of them: nothing can be known of interfaces
    wanted = {index: known.interface for id, index in endpoints if (known := names.endpoint(id))}
    if wanted and not any(here.get(index) == interface for index, interface in wanted.items()):
        shown = ", ".join(sorted(wanted.values())[:4])
        raise AttachFailed(
            f"none of the endpoints' interfaces ({shown}) is in this network namespace: run it where the agent ran "
            "(nsenter --net=FILE sockmesh uninstall --pins), or with --force if those pods are gone"
        )


def _remove_state(run_dir: Path) -> None:
    for name in STATE_FILES:
        (run_dir / name).unlink(missing_ok=True)
    for name in STATE_DIRS:
        shutil.rmtree(run_dir / name, ignore_errors=True)
