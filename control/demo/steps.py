"""What the demo does, step by step: each returns its figures and prints nothing."""

import dataclasses
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from control.agent import state
from control.demo import measure
from control.demo.site import QUIET, SERVICE_IP, Site
from control.inspect import endpoints, inforce, policies, socks, tcp
from control.names import Names
from loader import abi

if TYPE_CHECKING:
    from tests.hosts import Mesh, Pod

Json = dict[str, Any]
_CURL = (
    "curl",
    "--no-progress-meter",
    "--max-time",
    "5",
    "--output",
    "/dev/null",
    "--write-out",
    "HTTP %{http_code} in %{time_total} s",
)
_CALLS_FIRST = 200
_UNDER_WAY = 500_000  # bytes: far more than the answers to the calls before a download


@dataclasses.dataclass(frozen=True)
class Call:
    """One call by a real program: what was expected, what the program said, and how long it ran, its start included."""

    who: str
    what: str
    allowed: bool
    as_expected: bool
    said: str
    seconds: float


@dataclasses.dataclass(frozen=True)
class Cut:
    """An open connection that a policy change ended; `seconds` from the edit to the program's end."""

    what: str
    short_cut: bool
    said: str
    seconds: float
    as_expected: bool


@dataclasses.dataclass(frozen=True)
class Work:
    """A load: who runs which command, and how its output is read."""

    name: str
    pod: "Pod"
    command: Sequence[str]
    parse: Callable[[str], measure.Sample]


def calls(site: Site) -> tuple[Call, ...]:
    """Make calls that policy allows and calls that it refuses."""
    web, db = site.web, site.db
    ping = ("redis-cli", "-h", db.ip, "ping")
    return (
        _call(site.client, "web", (*_CURL, f"http://{web.ip}/small"), True),
        _call(site.client, "web over IPv6", (*_CURL, f"http://[{web.ip6}]/small"), True),
        _call(site.client, "web by its service address", (*_CURL, f"http://{SERVICE_IP}/small"), True),
        _call(site.client, "db", ping, True),
        _call(site.client, "web, port 8080", (*_CURL, f"http://{web.ip}:8080/small"), False),
        _call(site.guest, "web", (*_CURL, f"http://{web.ip}/small"), False),
        _call(site.guest, "web over IPv6", (*_CURL, f"http://[{web.ip6}]/small"), False),
        _call(site.guest, "db", ping, False),
    )


def _call(pod: "Pod", what: str, command: Sequence[str], allowed: bool) -> Call:
    began = time.monotonic()
    answer = pod.run(command, check=False)
    took = time.monotonic() - began
    said = " ".join((answer.stderr or answer.stdout).split())
    worked = "HTTP 200" in answer.stdout or answer.stdout.strip() == "PONG"
    return Call(pod.name, f"{command[0]} to {what}", allowed, worked == allowed, said, took)


def works(site: Site, seconds: float) -> tuple[Work, ...]:
    """Return the loads that are compared."""

    def wrk(name: str, file: str, connections: int) -> Work:
        command = ["wrk", "--latency", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
        return Work(name, site.client, [*command, f"http://{site.web.ip}/{file}"], measure.parse_wrk)

    calls = str(int(60_000 * seconds))
    redis = ["redis-benchmark", "-h", site.db.ip, "-c", "16", "-n", calls, "-t", "get", "--csv", "--precision", "3"]
    return (
        wrk("nginx, 90 B answer, 1 connection", "small", 1),
        wrk("nginx, 90 B answer, 32 connections", "small", 32),
        wrk("nginx, 1.5 MB file, 16 connections", "big", 16),
        Work("redis GET, 16 connections", site.client, redis, measure.parse_redis),
    )


def compare(mesh: "Mesh", work: Work, rounds: int) -> measure.Comparison:
    """Run a load over TCP and over the short cut in turn; the switch is turned as a person would turn it."""
    found: dict[str, list[measure.Sample]] = {"off": [], "on": []}
    redirected = total = 0
    for _ in range(rounds):
        for switch in ("off", "on"):
            mesh.call("set", acceleration=switch)
            before = _bytes(mesh)
            found[switch].append(work.parse(work.pod.run(work.command, timeout=60).stdout))
            if switch == "on":
                after = _bytes(mesh)
                redirected += after[0] - before[0]
                total += sum(after) - sum(before)
    share = redirected / total if total else 0.0
    return measure.Comparison(work.name, measure.median(found["off"]), measure.median(found["on"]), share)


def _bytes(mesh: "Mesh") -> tuple[int, int]:
    """Return the bytes that enrolled sockets have sent over the short cut, and over TCP."""
    with mesh.open_maps() as opened:
        return opened.counter(abi.Metric.REDIRECT_BYTES), opened.counter(abi.Metric.TCP_BYTES)


def cut(site: Site, mesh: "Mesh", accelerated: bool) -> tuple[Cut, ...]:
    """Change policy under two open connections: one that takes the short cut, where it is on, one that does not."""
    from tests.hosts.wait import wait_until

    # Only between calls is it certain that all has been read and acknowledged, which is when a socket can be taken in;
    # so some calls come first, and the download goes over their connection.
    web, nowhere = f"http://{site.web.ip}", ("--output", "/dev/null")
    download = site.client.popen(
        ["curl", "--no-progress-meter", *nowhere, f"{web}/small?[1-{_CALLS_FIRST}]", *nowhere, f"{web}/endless"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    idle = site.client.popen(
        ["bash", "-c", f"exec cat </dev/tcp/{site.web.ip}/80"], stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

    names = state.load_names(mesh.run_dir)

    def downloaded() -> list[int]:
        """Return the bytes that came from web by the way that is meant to carry them, by connection."""
        rows = [row for row in sock_rows(mesh, names) if row.destination.ip == site.web.ip and row.state == "open"]
        return [row.back.redirected_bytes if accelerated else row.back.tcp_bytes or 0 for row in rows]

    def both_open() -> bool:
        found = downloaded()
        return len(found) >= 2 and max(found) > _UNDER_WAY

    try:
        wait_until(both_open, "a download is under way and an idle connection is open", 20)
        with_short_cut = accelerated
    except TimeoutError:
        with_short_cut = False  # what follows is shown all the same
    began = time.monotonic()
    mesh.apply("policy-0", site.web_policy("nobody"))
    found = [
        _ended("curl, in the midst of a download", download, began, with_short_cut),
        _ended("cat, waiting on an idle connection", idle, began, False),
    ]
    mesh.apply("policy-0", site.web_policy("client"))
    mesh.settle()
    return tuple(found)


def _ended(what: str, program: "subprocess.Popen[str]", began: float, short_cut: bool) -> Cut:
    try:
        _, said = program.communicate(timeout=5)
    except subprocess.TimeoutExpired:
        return Cut(what, short_cut, "still open after 5 s", time.monotonic() - began, False)
    took = time.monotonic() - began
    return Cut(what, short_cut, " ".join(said.split()), took, took < 1.0 and program.returncode != 0)


def records(mesh: "Mesh") -> tuple[Json, ...]:
    """Return one flow record of each telling kind, as the flow log has them."""
    kinds: tuple[Callable[[Json], object], ...] = (
        lambda f: f.get("verdict") == "DROPPED" and _pod(f, "source") == "guest" and _pod(f, "destination") == "web",
        lambda f: f.get("verdict") == "DROPPED" and _pod(f, "source") == "guest" and _pod(f, "destination") == "db",
        lambda f: _event(f) == "open" and _pod(f, "destination") == "web",
        lambda f: _event(f) == "close" and _pod(f, "destination") == "web" and "; short cut" in str(f.get("Summary")),
        lambda f: _event(f) == "close" and _pod(f, "destination") == "db" and "; short cut" in str(f.get("Summary")),
        lambda f: "reset" in _event(f),
    )
    found = []
    flows = list(mesh.flows())
    for wanted in kinds:
        flow = next((f for f in reversed(flows) if wanted(f)), None)
        if flow:
            found.append(flow)
    return tuple(found)


def _pod(flow: Json, side: str) -> str:
    return str((flow.get(side) or {}).get("pod_name", ""))


def _event(flow: Json) -> str:
    from control.flow.record import extension

    return str(extension(flow).get("event") or "").replace("_", "-")


def sock_rows(mesh: "Mesh", names: Names) -> tuple[socks.SockRow, ...]:
    """Return the open connections."""
    with mesh.open_maps() as opened:
        conns = list(opened.conns.items())
    return socks.rows(conns, names, tcp.look(conns, names), time.monotonic_ns())


def busy_socks(site: Site, mesh: "Mesh", names: Names) -> tuple[socks.SockRow, ...]:
    """Return the connections of a load while it runs, with one that must stay on TCP beside them."""
    from tests.hosts.wait import wait_until

    load = site.client.popen(["wrk", "-t1", "-c3", "-d10s", f"http://{site.web.ip}/small"], **QUIET)
    idle = site.client.popen(["bash", "-c", f"exec cat </dev/tcp/{site.db.ip}/6379"], **QUIET)

    def ready() -> tuple[socks.SockRow, ...]:
        rows = [row for row in sock_rows(mesh, names) if row.state == "open"]
        enough = sum(row.redirected > 0 for row in rows) >= 3 and any(row.destination.port == 6379 for row in rows)
        return tuple(rows) if enough else ()

    try:
        return wait_until(ready, "connections are busy", 3)
    except TimeoutError:
        return sock_rows(mesh, names)
    finally:
        for program in (load, idle):
            program.kill()
            program.wait()


def policy_rows(mesh: "Mesh", names: Names, endpoint: str) -> tuple[policies.PolicyRow, ...]:
    """Return the entries in force on one endpoint."""
    with mesh.open_maps() as opened:
        here = inforce.endpoints(opened)
        entries = list(opened.policy.items())
    chosen = endpoints.pick(endpoints.rows(here, endpoints.set_facts(entries), names, {}), endpoint)
    own = [(key, value) for key, value in entries if key.set_id in chosen.sets]
    return policies.rows(own, names, policies.endpoints_by_set(here, names))
