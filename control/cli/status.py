"""`sockmesh status`: is the agent alive, what is in force, what is wrong."""

import sys
import time
from pathlib import Path

import click

from control.cli.bpf.endpoint import COLUMNS
from control.cli.gather import COUNTED, gather
from control.cli.place import Place, output_option, place_options
from control.cli.show import print_json, print_table
from control.flow import query
from control.flow.summary import amount, counted, span
from control.inspect import health, node_proxy
from control.terminal import printable
from loader.errors import AgentUnavailable

_WIDTH = 14
_PAUSE_S = 0.2
_LEFT = "what is in the kernel stays in force; edits of policy and flow records wait for an agent"
_CLOSED = "no policy is in force yet, every pod is closed"
_WITHOUT_WORDS = {
    health.State.STARTING: ("starting", "yellow"),
    health.State.SILENT: ("DOES NOT ANSWER", "red"),
    health.State.ELSEWHERE: ("NOT FOUND", "red"),
    health.State.DEAD: ("DEAD", "red"),
}


def _span(ctx: click.Context, param: click.Parameter, given: str) -> int:
    longest = query.parse_span(given)
    if longest is None:
        raise click.BadParameter(f"{given} is not a span of time (30s, 5m, 1m30s)", ctx, param)
    return longest


def until_ready(place: Place, longest_ns: int) -> None:
    """Return once the agent has its configuration in force and knows whether the short cut is safe here.

    Raises AgentUnavailable when it takes longer. An agent answers when it has read its directory for the first time;
    problems with that are no reason to wait, as they would not pass.
    """
    end = time.monotonic_ns() + longest_ns
    while True:
        found = place.agent_status()
        if found.words and not found.words.get("self_test_running"):
            return
        if time.monotonic_ns() > end:
            why = found.why_silent or "its self-test is running"
            raise AgentUnavailable(f"the agent is not ready after {span(longest_ns)}: {why}")
        time.sleep(_PAUSE_S)


@click.command()
@click.option("--brief", is_flag=True, help="One line.")
@click.option("--wait", is_flag=True, help="Wait until the agent answers and its self-test is done.")
@click.option("--wait-duration", default="5m", show_default=True, callback=_span, help="The longest to wait.")
@place_options
@output_option
def status(brief: bool, wait: bool, wait_duration: int, pin_dir: Path, run_dir: Path, output: str) -> None:
    """Show whether the agent is alive, what is in force on this node, and what is wrong.

    Works while the agent is dead or starts, from what is in the kernel. The policy's revision counts the changes of
    what the kernel has, and each start of an agent: an edit that changes nothing there is taken in, and leaves it.

    \b
    Exit status:
      0  all is well: policy is in force, and there is no problem (an agent
         that starts is none, nor is the kill switch)
      1  something is wrong: the agent is dead or does not answer, there are
         problems (endpoints that are not in force and a self-test that failed
         are such), no policy is in force here yet, or --wait did not see the
         agent ready in time
      2  the command was given wrongly
    """
    place = Place(pin_dir, run_dir)
    if wait:
        until_ready(place, wait_duration)
    found = gather(place)
    if output == "json":
        print_json(found)
    elif brief:
        click.echo(printable(health.brief(found) + (f"; {_CLOSED}" if _is_closed(found) else "")))
    else:
        _print(found)
    if not found.is_well:
        sys.exit(1)  # after all is said: who asks from a script needs no word of it


def _line(name: str, text: str, colour: str = "") -> None:
    head = click.style(f"{name:<{_WIDTH}}", bold=True)
    click.echo(head + (click.style(printable(text), fg=colour) if colour else printable(text)))


def _list(name: str, sentences: tuple[str, ...], colour: str) -> None:
    _line(name, f"{len(sentences)}" if sentences else "none", colour if sentences else "")
    for sentence in sentences:
        click.echo(f"  - {printable(sentence)}")


def _print(found: health.Health) -> None:
    _print_agent(found)
    _line("policy", f"{health.revision_word(found)} in the kernel, {_policies(found)}{health.endpoints_word(found)}")
    if found.edition_word:
        _line("edition", f"{found.edition}: {found.edition_word}", "yellow")
    _line("node proxy", node_proxy.word(found.proxy), node_proxy.colour(found.proxy))
    if between := (found.agent or {}).get("mtls"):
        first = f", the first ends at {between['first_ends']}" if between["first_ends"] else ""
        _line("mTLS", f"{between['mode']}: {counted(between['certificates'], 'certificate')}{first}")
    if tracing := (found.agent or {}).get("tracing"):
        lost = sum(tracing["lost"].values())
        _line(
            "tracing",
            f"{counted(tracing['sent'], 'span')} sent to {tracing['endpoint']}" + f", {lost:,} LOST" * bool(lost),
        )
    accel = found.acceleration
    _line("short cut", "on" if accel.on else f"OFF: {accel.why}", "green" if accel.on else "yellow")
    _line("connections", _connections(found))
    against = f"{counted(found.refused_calls, 'call')} refused, {counted(found.dropped_packets, 'packet')} dropped"
    _line("redirected", f"{amount(found.redirected_bytes)} took the short cut; {against}")
    _print_flow_log(found)
    lost = {where: n for where, n in found.lost_events.items() if n}
    _line("events lost", ", ".join(f"{n:,} ({where})" for where, n in lost.items()) or "0", "red" if lost else "")
    fills = [
        f"{m.name} {m.entries:,}/{m.max_entries:,}" for m in found.maps if m.name in COUNTED and m.entries is not None
    ]
    _line("maps", f"{amount(found.memory_bytes)} of kernel memory; {', '.join(fills)}")
    _list("problems", found.problems, "red")
    if found.warnings:
        _list("warnings", found.warnings, "yellow")
    if found.endpoints:
        click.echo()
        print_table(found.endpoints, COLUMNS)


def _print_agent(found: health.Health) -> None:
    agent, where = found.agent, f"on node {found.node}" if found.node else "on this node"
    if agent is None:
        state, colour = _WITHOUT_WORDS[found.state]
        _line("agent", f"{state} {where}: {found.why_silent}", colour)
        if found.state is not health.State.ELSEWHERE:
            _line("", _LEFT if found.in_force else "no policy is in force yet", colour)
        return
    up = span(max(0, int((time.time() - agent.get("started", time.time())) * 1e9)))
    began = "adopted what was in force" if agent.get("adopted") else "fresh start"
    _line("agent", f"alive on node {found.node}, pid {agent.get('pid')}, up {up} ({began}), "
          f"{amount(agent.get('resident_memory_bytes', 0))} of memory", "green")  # fmt: skip


def _is_closed(found: health.Health) -> bool:
    return bool((found.agent or {}).get("closed"))


def _policies(found: health.Health) -> str:
    if _is_closed(found):
        return f"{_CLOSED}, "
    known = (found.agent or {}).get("policies")
    return "" if known is None else counted(known, "policy", "policies") + ", "


def _connections(found: health.Health) -> str:
    if not found.connections:
        return "none open"
    sides = ", ".join(f"{word} {count}" for word, count in found.short_cut.items())
    return f"{found.connections} open; receiving sides: {sides}"


def _print_flow_log(found: health.Health) -> None:
    flow_log = (found.agent or {}).get("flow_log")
    if flow_log:
        sinks = [f"{s['name']} ({s['written']:,} written)" for s in flow_log["sinks"]]
        where = ", ".join(sinks) or "memory only (`sockmesh observe`)"
        readers = counted(flow_log["observers"], "observer")
        _line("flow log", f"{counted(flow_log['lines'], 'record')}; {where}; {readers}")
