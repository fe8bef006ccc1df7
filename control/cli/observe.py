"""`sockmesh observe`: flow records from a running agent or from a file, filtered and printed."""

import contextlib
import difflib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

from control import admin_client
from control.agent.options import Options
from control.cli.place import PATH
from control.flow import filter as flow_filter
from control.flow import printer, query, record
from loader import errors

DEFAULT_LAST = 20
_SHORT = {"label": "-l", "namespace": "-n", "type": "-t"}
_BY_SHORT = {short: flag for flag, short in _SHORT.items()}
_COLOURS = {
    "FORWARDED": "green", "REDIRECTED": "green", "DROPPED": "red", "ERROR": "red", "AUDIT": "yellow",
    "TRACED": "yellow", "TRANSLATED": "cyan", "host": "cyan", "identity": "magenta",
}  # fmt: skip
_HELP = {
    "verdict": f"Verdict: {', '.join(flow_filter.VERDICTS)}.",
    "drop-reason-desc": "Reason of a drop, such as POLICY_DENIED, or its number.",
    "traffic-direction": "Direction whose policy decided: ingress or egress.",
    "protocol": f"Protocol: {', '.join(flow_filter.PROTOCOLS)}.",
    "ip-version": "4 or 6; also -4 and -6.",
    "tcp-flags": 'TCP flags, all of them set ("syn,ack").',
    "type": f"Hubble's type ({', '.join(flow_filter.TYPES)}; trace:to-endpoint, trace:from-endpoint) or our event "
    f"({', '.join(flow_filter.OUR_TYPES)}).",
    "uuid": "The one record with this id.",
    "node-name": 'Node, with wildcards ("worker-*").',
    "ip": "Address or range (10.0.0.0/8) of either end.",
    "port": "Port, or range of ports (8000-8999), of either end.",
    "identity": 'Identity of either end, by number or by name ("world").',
    "label": 'Label selector for either end ("app=web", "app in (a,b)", "!canary").',
    "namespace": "Namespace of either end.",
    "pod": "Pod at either end, [namespace/]prefix.",
}


class ValueRefused(click.ClickException):
    """A wrong value: one line and exit status 2, without the usage text that would bury it."""

    exit_code = 2


class _ObserveCommand(click.Command):
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


def _filter_options(command: Callable[..., None]) -> Callable[..., None]:
    # Last first, because decorators are applied from the inside out and --help shall show them in order.
    for flag in reversed(flow_filter.FLAGS):
        side, _, base = flag.partition("-")
        is_sided = side in ("from", "to") and base in flow_filter.FLAGS
        text = f"The same at the {'source' if side == 'from' else 'destination'}." if is_sided else _HELP[flag]
        names = [f"--{flag}", *([_SHORT[flag]] if flag in _SHORT else [])]
        command = click.option(*names, _parameter(flag), multiple=True, metavar="VALUE", help=text)(command)
        command = click.option(f"--not-{flag}", _parameter(flag, True), multiple=True, hidden=True)(command)
    return command


def _parameter(flag: str, negated: bool = False) -> str:
    return ("not_" if negated else "only_") + flag.replace("-", "_")


def _terms(options: dict[str, Any]) -> tuple[flow_filter.Term, ...]:
    return tuple(
        flow_filter.Term(flag, value, negated)
        for negated in (False, True)
        for flag in flow_filter.FLAGS
        for value in options[_parameter(flag, negated)]
    )


def _moment(flag: str, text: str | None) -> int | None:
    try:
        return None if text is None else query.parse_moment(text, time.time_ns())
    except ValueError as error:
        raise ValueRefused(f"--{flag}: {error}") from None


def _query(options: dict[str, Any]) -> query.Query:
    last, first = options["last"], options["first"]
    bounds = [options["show_all"], first is not None, options["since"], options["until"], options["input_file"]]
    if first is not None and last is not None:
        raise ValueRefused("--first and --last exclude each other")
    if options["follow"] and (first is not None or options["until"] or options["input_file"]):
        raise ValueRefused("--follow has no end: it takes neither --first nor --until nor --input-file")
    if last is None and not any(bounds):
        last = 0 if options["follow"] else DEFAULT_LAST  # whoever follows wants what comes, as with Hubble
    terms = list(_terms(options))
    terms += [flow_filter.Term("ip-version", v) for v in ("4", "6") if options[f"ipv{v}"]]
    found = query.Query(
        terms=tuple(terms),
        last=None if options["show_all"] else last,
        first=first,
        since_ns=_moment("since", options["since"]),
        until_ns=_moment("until", options["until"]),
        follow=options["follow"],
    )
    try:
        query.Matcher(found)
    except flow_filter.FilterInvalid as error:
        raise ValueRefused(str(error)) from None
    return found


class _File:
    """Yields a file's records. Lines that are no JSON are `skipped`, unless no line is: then it is no flow log."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.skipped = 0

    def __iter__(self) -> Iterator[record.Json]:
        path, first, found = self._path, "", False
        try:
            lines = contextlib.nullcontext(sys.stdin.buffer) if path == "-" else open(path, "rb")  # noqa: SIM115
        except OSError as error:
            raise click.ClickException(f"{path}: {error.strerror}") from None
        with lines as source:
            for number, line in enumerate(source, 1):
                if line.strip():
                    try:
                        response = query.parse_line(line)
                    except query.NotJson as error:
                        first = first or f"{path}: line {number}: {error}"
                        self.skipped += 1
                        continue
                    except query.NotAFlow as error:
                        raise click.ClickException(f"{path}: line {number}: {error}") from None
                    found = True
                    yield response
        if first and not found:
            raise click.ClickException(first)


def _wanted(responses: Iterable[record.Json], asked: query.Query) -> Iterator[record.Json]:
    if not asked.follow:
        yield from query.select(responses, asked)
        return
    matcher = query.Matcher(asked)
    yield from (response for response in responses if matcher.wants(response))
    raise errors.AgentUnavailable(
        "the agent stopped, so no more flows come (policy stays in force); start it with `sockmesh agent` and observe "
        "again"
    )


def _paint(text: str, what: str) -> str:
    return click.style(text, fg=_COLOURS[what]) if what in _COLOURS else text


def _told_if_none(responses: Iterator[record.Json], asked: query.Query) -> Iterator[record.Json]:
    """Pass responses on; where there were none, tell a person so, and nothing a program might read."""
    found = False
    for response in responses:
        found |= "flow" in response
        yield response
    if not found and sys.stderr.isatty():
        filtered = asked.terms or asked.since_ns is not None or asked.until_ns is not None
        click.echo("no flow matches these filters" if filtered else "no flows yet", err=True)


def _print(responses: Iterator[record.Json], output: str, style: printer.Style, follow: bool) -> None:
    out = sys.stdout
    table = printer.Table(printer.columns(style)) if output == "table" else None
    if table and not follow:
        out.writelines(row + "\n" for row in table.rows([printer.cells(r, style) for r in responses]))
        return
    for count, response in enumerate(responses):
        # One record at a time also without --follow: a file may be longer than memory.
        if table:
            out.writelines(row + "\n" for row in table.rows([printer.cells(response, style)]))
        elif output == "compact":
            out.write(printer.compact(response, style) + "\n")
        elif output == "dict":
            out.write(("------------\n" if count else "") + printer.block(response, style) + "\n")
        else:
            out.write(record.line(response).decode())
        if follow:
            out.flush()


@click.command(cls=_ObserveCommand, context_settings={"max_content_width": 120})
@click.option("-f", "--follow", is_flag=True, help="New flows as they come; earlier ones only if asked for.")
@click.option(
    "--last", type=click.IntRange(0), metavar="N",
    help=f"The last N flows (if nothing is said {DEFAULT_LAST}, with --follow none).",
)  # fmt: skip
@click.option("--first", type=click.IntRange(0), metavar="N", help="The first N flows that are still in memory.")
@click.option("--all", "show_all", is_flag=True, help="All flows that are still in memory.")
@click.option("--since", metavar="TIME", help="Not before: a time (RFC 3339, UTC if it has no zone) or an age (5m).")
@click.option("--until", metavar="TIME", help="Not after.")
@click.option("--input-file", metavar="FILE", help='Read records from a file instead; "-" is standard input.')
@click.option("--run-dir", type=PATH, default=Options.run_dir, show_default=True, help="The agent's socket and state.")
@click.option("--server", metavar="SOCKET", help="The agent's socket, if it is not in its directory.")
@click.option("-o", "--output", type=click.Choice(["compact", "json", "jsonpb", "table", "dict"]), default="compact")
@click.option("--print-node-name", is_flag=True, help="Show the node.")
@click.option("--print-policy-names", is_flag=True, help="Show the rules that decided.")
@click.option("--numeric", is_flag=True, help="Addresses and numbers instead of names.")
@click.option(
    "--ip-translation", type=bool, is_flag=False, flag_value=True, default=True, metavar="BOOL", show_default=True,
    help="Names of pods instead of addresses.",
)  # fmt: skip
@click.option(
    "--time-format",
    default="StampMilli",
    show_default=True,
    help=f"{', '.join(printer.TIME_FORMATS)} or %-pattern; UTC.",
)
@click.option(
    "--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="auto: on a terminal only."
)
@click.option("-4", "--ipv4", is_flag=True, help="IPv4 only.")
@click.option("-6", "--ipv6", is_flag=True, help="IPv6 only.")
@click.option("-A", "--all-namespaces", is_flag=True, expose_value=False, help="All are shown anyway; Hubble's habit.")
@click.option("--not", "_not", is_flag=True, expose_value=False, help="Before a filter: leave out what it matches.")
@_filter_options
def observe(**options: Any) -> None:
    """Show flow records: who talked to whom, what policy said, and whether the short cut carried it.

    Filters may be repeated: uses of one filter are alternatives, different filters must all match. --not before a
    filter leaves out what that filter matches.
    """
    asked = _query(options)
    layout = options["time_format"]
    named = {name.lower(): name for name in printer.TIME_FORMATS}
    if layout.lower() not in named and "%" not in layout:
        raise ValueRefused(
            f'--time-format: unknown "{layout}" ({", ".join(printer.TIME_FORMATS)} or a pattern like %H:%M)'
        )
    coloured = options["color"] == "always" or (
        options["color"] == "auto" and sys.stdout.isatty() and "NO_COLOR" not in os.environ
    )
    style = printer.Style(
        time_format=named.get(layout.lower(), layout),
        node_name=options["print_node_name"],
        policy_names=options["print_policy_names"],
        numeric=options["numeric"],
        addresses=not options["ip_translation"],
        paint=_paint if coloured else printer.plain,
    )
    file = _File(options["input_file"]) if options["input_file"] else None
    source: Iterable[record.Json]
    if file:
        source = file
    else:
        server = options["server"] or str(options["run_dir"] / admin_client.SOCKET)
        source = admin_client.stream(server, "observe", asked.params())
    try:
        _print(_told_if_none(_wanted(source, asked), asked), options["output"], style, asked.follow)
        sys.stdout.flush()
        if file and file.skipped:
            lines = "1 line that is" if file.skipped == 1 else f"{file.skipped} lines that are"
            click.echo(f"{options['input_file']}: skipped {lines} not JSON", err=True)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        # Whoever read us has enough. Python would flush again at exit and complain: give it somewhere to write.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (errors.MeshError, query.NotAFlow) as error:
        raise click.ClickException(str(error)) from None
    except (AttributeError, KeyError, TypeError) as error:
        if not options["input_file"]:
            raise  # the agent wrote it, so it is ours
        raise click.ClickException(f"{options['input_file']}: a line is not a flow record: {error!r}") from None
