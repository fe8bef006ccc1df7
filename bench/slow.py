"""A reader that does not read: how many bytes the kernel takes from its peer before it says no."""

from bench import load
from bench.ground import CLIENT_CPU, Ground
from bench.result import MESH, PLAIN, Goal, Result


def result() -> Result:
    return Result("slow-reader", "unread bytes held for a reader that stopped", "MB", [Goal(2.0, PLAIN, most=True)])


def measure(ground: Ground, result: Result) -> None:
    for side in (PLAIN, MESH):
        report = load.pingpong(ground.host(side), "hold", 3, *ground.address(side), "--cpu", CLIENT_CPU)
        result.add(side, report["held_bytes"] / 1e6)
