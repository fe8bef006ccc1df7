"""What a person sees of the demo: titles, tables, a picture of the comparison. Only this module prints."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import click

from control.cli.bpf import policy as policy_command
from control.cli.bpf import sock as sock_command
from control.cli.show import Column, print_table
from control.demo import measure, steps
from control.flow import printer
from control.flow.summary import span
from control.inspect import policies, socks
from control.terminal import printable

_BAR = 44
_RULE = 100
_CALLS = (
    Column[steps.Call]("FROM", lambda c: c.who),
    Column[steps.Call]("CALL", lambda c: c.what),
    Column[steps.Call]("POLICY", lambda c: "allows" if c.allowed else "refuses",
                       style=lambda t: "green" if t == "allows" else "red"),
    Column[steps.Call]("THE PROGRAM SAID", lambda c: c.said + ("" if c.as_expected else "   <- NOT AS EXPECTED")),
)  # fmt: skip
_COMPARISON = (
    Column[measure.Comparison]("WORK", lambda c: c.work),
    Column[measure.Comparison]("TCP", lambda c: f"{c.tcp.rate:,.0f}/s", right=True),
    Column[measure.Comparison]("SHORT CUT", lambda c: f"{c.short_cut.rate:,.0f}/s", right=True),
    Column[measure.Comparison]("RATIO", lambda c: f"{c.ratio:.2f}x", right=True,
                               style=lambda t: "green bold" if float(t[:-1]) > 1 else "yellow"),
    Column[measure.Comparison]("MEDIAN LATENCY", lambda c: _pair(c.tcp.p50_s, c.short_cut.p50_s), right=True),
    Column[measure.Comparison]("99%", lambda c: _pair(c.tcp.p99_s, c.short_cut.p99_s), right=True),
    Column[measure.Comparison]("BYTES ON IT", lambda c: f"{c.share:.1%}", right=True),
)  # fmt: skip
TAIL = 'where 99% is the longer one on the short cut: "The tail of the latency" in docs/limits.md'
_CUTS = (
    Column[steps.Cut]("OPEN CONNECTION", lambda c: c.what),
    Column[steps.Cut]("SHORT CUT", lambda c: "yes" if c.short_cut else "no"),
    Column[steps.Cut]("ENDED AFTER", lambda c: _time(c.seconds), right=True),
    Column[steps.Cut]("THE PROGRAM SAID", lambda c: c.said + ("" if c.as_expected else "   <- NOT AS EXPECTED")),
)


def _time(seconds: float) -> str:
    return span(int(seconds * 1e9))


def _pair(before: float, after: float) -> str:
    return f"{_time(before)} -> {_time(after)}"


class Stage(Protocol):
    """Where the demo shows what it does."""

    def title(self, text: str) -> None: ...
    def say(self, text: str) -> None: ...
    def calls(self, found: Sequence[steps.Call]) -> None: ...
    def comparisons(self, found: Sequence[measure.Comparison]) -> None: ...
    def cuts(self, found: Sequence[steps.Cut]) -> None: ...
    def records(self, found: Sequence[Mapping[str, Any]]) -> None: ...
    def maps(self, connections: Sequence[socks.SockRow], entries: Sequence[policies.PolicyRow]) -> None: ...


class Silent:
    """The stage of `-o json`: the figures are printed once, at the end."""

    def title(self, text: str) -> None: ...
    def say(self, text: str) -> None: ...
    def calls(self, found: Sequence[steps.Call]) -> None: ...
    def comparisons(self, found: Sequence[measure.Comparison]) -> None: ...
    def cuts(self, found: Sequence[steps.Cut]) -> None: ...
    def records(self, found: Sequence[Mapping[str, Any]]) -> None: ...
    def maps(self, connections: Sequence[socks.SockRow], entries: Sequence[policies.PolicyRow]) -> None: ...


class Terminal:
    """The stage for people."""

    def __init__(self) -> None:
        self._titles = 0

    def title(self, text: str) -> None:
        self._titles += 1
        line = f"-- {self._titles}. {text} "
        click.secho(f"\n{line}{'-' * max(0, _RULE - len(line))}", bold=True)
        sys.stdout.flush()

    def say(self, text: str) -> None:
        click.echo(printable(text))
        sys.stdout.flush()

    def calls(self, found: Sequence[steps.Call]) -> None:
        print_table(found, _CALLS)

    def comparisons(self, found: Sequence[measure.Comparison]) -> None:
        print_table(found, _COMPARISON)
        if any(comparison.short_cut.p99_s > comparison.tcp.p99_s for comparison in found):
            click.echo(TAIL)
        click.echo()
        for comparison in found:
            for line in picture(comparison):
                click.echo(line)

    def cuts(self, found: Sequence[steps.Cut]) -> None:
        print_table(found, _CUTS)

    def records(self, found: Sequence[Mapping[str, Any]]) -> None:
        style = printer.Style(policy_names=True)
        for flow in found:
            click.echo(printer.compact({"flow": flow, "time": flow.get("time", "")}, style))

    def maps(self, connections: Sequence[socks.SockRow], entries: Sequence[policies.PolicyRow]) -> None:
        click.secho("$ sockmesh bpf sock list", bold=True)
        print_table(connections, sock_command.COLUMNS)
        click.secho("\n$ sockmesh bpf policy get web", bold=True)
        print_table(entries, policy_command.COLUMNS)


def picture(comparison: measure.Comparison) -> tuple[str, str]:
    """Return two bars on one scale: calls a second over TCP and over the short cut."""
    most = max(comparison.tcp.rate, comparison.short_cut.rate) or 1.0
    rows = (
        (comparison.work, "TCP", comparison.tcp.rate, "░", ""),
        ("", "short cut", comparison.short_cut.rate, "█", f"  {comparison.ratio:.2f}x"),
    )
    width = max(36, len(comparison.work))
    return tuple(  # type: ignore[return-value]
        f"{name:<{width}} {kind:<9} {ink * max(1, round(_BAR * rate / most)):<{_BAR}} {rate:>9,.0f}/s{note}"
        for name, kind, rate, ink, note in rows
    )
