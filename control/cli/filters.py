"""The filters of `sockmesh observe` on its command line: an option for each, and `--not` before any of them.

In click no option can change the meaning of the next one. So each filter has a hidden twin (`--not-verdict`), and
`--not --verdict` is read as that.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

from control.flow import filter as flow_filter

_SHORT = {"label": "-l", "namespace": "-n", "type": "-t"}
_BY_SHORT = {short: flag for flag, short in _SHORT.items()}
_HELP = {
    "verdict": f"Verdict: {', '.join(flow_filter.VERDICTS)}.",
    "drop-reason-desc": "Reason of a drop, such as POLICY_DENIED, or its number.",
    "traffic-direction": "Direction whose policy decided: ingress or egress.",
    "protocol": f"Protocol: {', '.join(flow_filter.PROTOCOLS)}.",
    "ip-version": "4 or 6; also -4 and -6.",
    "tcp-flags": 'TCP flags, all of them set ("syn,ack").',
    "type": f"Hubble's type ({', '.join(flow_filter.TYPES)}; trace:to-endpoint, trace:from-endpoint) or our event "
    f"({', '.join(flow_filter.OUR_TYPES)}).",
    "http-method": "Method of a request (get).",
    "http-path": 'Regular expression that is found in a request\'s path, without its query ("^/api/v[12]/").',
    "http-status": 'Status (404), or its first digits and a + ("5+").',
    "http-url": 'Regular expression that is found in a request\'s URL ("http://shop/.*[?]debug").',
    "http-header": 'Header that is on record with that value ("x-request-id:7"); see `sockmesh agent --record-header`.',
    "trace-id": "Trace that a request is part of (`traceparent`).",
    "uuid": "The one record with this id.",
    "node-name": 'Node, with wildcards ("worker-*").',
    "ip": "Address or range (10.0.0.0/8) of either end.",
    "port": "Port, or range of ports (8000-8999), of either end.",
    "identity": 'Identity of either end, by number, or by name as policies mean it ("world": any address outside).',
    "label": 'Label selector for either end ("app=web", "app in (a,b)", "!canary").',
    "namespace": "Namespace of either end.",
    "pod": "Pod at either end, [namespace/]prefix.",
    "service": "Service whose address is at either end, [namespace/]prefix.",
}
_SWITCHES = (
    click.option("-4", "--ipv4", is_flag=True, help="IPv4 only."),
    click.option("-6", "--ipv6", is_flag=True, help="IPv6 only."),
    click.option(
        "-A", "--all-namespaces", is_flag=True, expose_value=False, help="All are shown anyway; Hubble's habit."
    ),
    click.option("--not", "_not", is_flag=True, expose_value=False, help="Before a filter: leave out what it matches."),
)


class ValueRefused(click.ClickException):
    """A wrong value: one line and exit status 2, without the usage text that would bury it."""

    exit_code = 2


class FilteringCommand(click.Command):
    """Gives `--not` its meaning: the filter after it is read as that filter's hidden negated twin."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, list(_without_not(args)))
        except click.NoSuchOption as error:
            if not error.possibilities:
                raise
            shown = [name for p in self.params if not getattr(p, "hidden", False) for name in p.opts]
            close = difflib.get_close_matches(error.option_name, shown)
            raise click.NoSuchOption(error.option_name, possibilities=close, ctx=ctx) from None


def _without_not(args: Iterable[str]) -> Iterator[str]:
    words = iter(args)
    for word in words:
        if word != "--not":
            yield word
            continue
        name, _, value = next(words, "").partition("=")
        if name in ("-4", "-6", "--ipv4", "--ipv6"):
            yield f"--not-ip-version={name[-1]}"
        elif name[:2] in _BY_SHORT and not name.startswith("--"):
            yield f"--not-{_BY_SHORT[name[:2]]}"
            # The value follows, in this word ("-nshop", and an "=" in it is the value's own) or in the next.
            rest = name[2:] + ("=" + value if value else "")
            yield from [rest] if rest else []
        elif name[2:] in flow_filter.FLAGS and name.startswith("--"):
            yield f"--not-{name[2:]}" + (f"={value}" if value else "")
        else:
            raise ValueRefused(
                f"--not: a filter must follow it, as in --not --ip 10.0.0.1 (found {name or 'nothing'!r})"
            )


def filter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a FilteringCommand its filters; `terms` reads them."""
    # Last first, because decorators are applied from the inside out and --help shall show them in order.
    for flag in reversed(flow_filter.FLAGS):
        side, _, base = flag.partition("-")
        is_sided = side in ("from", "to") and base in flow_filter.FLAGS
        text = f"The same at the {'source' if side == 'from' else 'destination'}." if is_sided else _HELP[flag]
        names = [f"--{flag}", *([_SHORT[flag]] if flag in _SHORT else [])]
        command = click.option(*names, _parameter(flag), multiple=True, metavar="VALUE", help=text)(command)
        command = click.option(f"--not-{flag}", _parameter(flag, True), multiple=True, hidden=True)(command)
    for option in reversed(_SWITCHES):
        command = option(command)
    return command


def _parameter(flag: str, negated: bool = False) -> str:
    return ("not_" if negated else "only_") + flag.replace("-", "_")


def terms(options: dict[str, Any]) -> tuple[flow_filter.Term, ...]:
    """Return what the options of `filter_options` ask for."""
    named = [
        flow_filter.Term(flag, value, negated)
        for negated in (False, True)
        for flag in flow_filter.FLAGS
        for value in options[_parameter(flag, negated)]
    ]
    return (*named, *(flow_filter.Term("ip-version", v) for v in ("4", "6") if options[f"ipv{v}"]))
