"""`sockmesh observe`: flow records from a running agent or from a file, filtered and printed."""

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

from control import admin_client
from control.cli import filters
from control.cli.place import run_dir_option
from control.flow import filter as flow_filter
from control.flow import printer, query, record
from loader import errors

DEFAULT_LAST = 20
_COLOURS = {
    "FORWARDED": "green", "REDIRECTED": "green", "DROPPED": "red", "ERROR": "red", "AUDIT": "yellow",
    "TRACED": "yellow", "TRANSLATED": "cyan", "host": "cyan", "identity": "magenta",
}  # fmt: skip


def _moment(flag: str, text: str | None) -> int | None:
    try:
        return None if text is None else query.parse_moment(text, time.time_ns())
    except ValueError as error:
        raise filters.ValueRefused(f"--{flag}: {error}") from None


def _query(options: dict[str, Any]) -> query.Query:
    last, first = options["last"], options["first"]
    bounds = [options["show_all"], first is not None, options["since"], options["until"], options["input_file"]]
    if first is not None and last is not None:
        raise filters.ValueRefused("--first and --last exclude each other")
    if options["follow"] and (first is not None or options["until"] or options["input_file"]):
        raise filters.ValueRefused("--follow has no end: it takes neither --first nor --until nor --input-file")
    if options["input_file"] == "":  # a variable that is not set: the agent's records are not what was asked for
        raise filters.ValueRefused('--input-file: it is empty (a file, or "-")')
    if last is None and not any(bounds):
        last = 0 if options["follow"] else DEFAULT_LAST  # whoever follows wants what comes, as with Hubble
    found = query.Query(
        terms=filters.terms(options),
        last=None if options["show_all"] else last,
        first=first,
        since_ns=_moment("since", options["since"]),
        until_ns=_moment("until", options["until"]),
        follow=options["follow"],
    )
    if found.since_ns is not None and found.until_ns is not None and found.until_ns < found.since_ns:
        raise filters.ValueRefused("--until is before --since (of two ages the longer one is --since)")
    try:
        query.Matcher(found)
    except flow_filter.FilterInvalid as error:
        raise filters.ValueRefused(str(error)) from None
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
            raise errors.MeshError(f"{path}: {error.strerror}") from None
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
                        raise errors.MeshError(f"{path}: line {number}: {error}") from None
                    found = True
                    yield response
        if first and not found:
            raise errors.MeshError(first)


def _wanted(responses: Iterable[record.Json], asked: query.Query) -> Iterator[record.Json]:
    if not asked.follow:
        yield from query.select(responses, asked)
        return
    matcher = query.Matcher(asked)
    yield from (response for response in responses if matcher.wants(response))
    raise errors.AgentUnavailable(
        "the agent stopped, so no more flows come (policy stays in force); start it with `sockmesh agent --config DIR` "
        "and observe again"
    )


def _paint(text: str, what: str) -> str:
    return click.style(text, fg=_COLOURS[what]) if what in _COLOURS else text


def _earlier(server: str) -> str:
    """Return where an agent's records from before its start are, "" if it has written none that can be found.

    Raises no error: it was there a moment ago, and what it said is whole.
    """
    with contextlib.suppress(errors.MeshError, OSError, LookupError, TypeError):
        said = admin_client.call(server, "status", timeout=5.0)
        home = os.readlink(f"/proc/{said['pid']}/cwd")  # what a relative path is of
        for sink in said["flow_log"]["sinks"]:
            path = os.path.join(home, sink["name"])
            if os.path.isfile(path) and os.path.getsize(path):
                return f"; earlier ones may be in {path}: --input-file {path}"
    return ""


def _told_if_none(
    responses: Iterator[record.Json], asked: query.Query, earlier: Callable[[], str]
) -> Iterator[record.Json]:
    """Pass responses on; where there were none, say so on standard error, as kubectl does: the output stays empty."""
    found = False
    for response in responses:
        found = True
        yield response
    if not found and asked.last != 0 and asked.first != 0:  # who asked for none knows it
        filtered = asked.terms or asked.since_ns is not None or asked.until_ns is not None
        click.echo(("no flow matches these filters" if filtered else "no flows yet") + earlier(), err=True)


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


def _socket(ctx: click.Context, param: click.Parameter, given: str | None) -> str | None:
    """Take hubble's form of a socket; there is no relay to ask over the network."""
    if given is None:
        return None
    path = given.removeprefix("unix://")
    if "/" not in path and re.fullmatch(r".+:\d+", path):
        raise click.BadParameter(
            f"{given} is an address: agents answer on their node's socket only (a path)", ctx, param
        )
    return path


@click.command(cls=filters.FilteringCommand, context_settings={"max_content_width": 120})
@click.option("-f", "--follow", is_flag=True, help="New flows as they come; earlier ones only if asked for.")
@click.option(
    "--last", type=click.IntRange(0), metavar="N",
    help=f"The last N flows, by their times (if nothing is said {DEFAULT_LAST}, with --follow none).",
)  # fmt: skip
@click.option("--first", type=click.IntRange(0), metavar="N", help="The first N flows that are still in memory.")
@click.option("--all", "show_all", is_flag=True, help="All flows that are still in memory.")
@click.option("--since", metavar="TIME", help="Not before: a time (RFC 3339, UTC if it has no zone) or an age (5m).")
@click.option("--until", metavar="TIME", help="Not after.")
@click.option("--input-file", metavar="FILE", help='Read records from a file instead; "-" is standard input.')
@run_dir_option
@click.option(
    "--server",
    metavar="SOCKET",
    callback=_socket,
    help="The agent's socket, if it is not in its directory: a path, unix:// before it or not.",
)
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
@filters.filter_options
def observe(**options: Any) -> None:
    """Show flow records: who talked to whom, what policy said, and whether the short cut carried it.

    Filters may be repeated: uses of one filter are alternatives, different filters must all match. --not before a
    filter leaves out what that filter matches.
    """
    asked = _query(options)
    layout = options["time_format"]
    named = {name.lower(): name for name in printer.TIME_FORMATS}
    if layout.lower() not in named and "%" not in layout:
        raise filters.ValueRefused(
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
    server = options["server"] or str(options["run_dir"] / admin_client.SOCKET)
    source: Iterable[record.Json] = file or admin_client.stream(server, "observe", asked.params())
    found = _told_if_none(_wanted(source, asked), asked, lambda: "" if file else _earlier(server))
    try:
        _print(found, options["output"], style, asked.follow)
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
    except admin_client.NobodyListens as error:
        raise errors.AgentUnavailable(f"{error}; what it wrote with --flow-log is read with --input-file") from None
    except query.NotAFlow as error:
        raise errors.MeshError(str(error)) from None
    except (AttributeError, KeyError, TypeError) as error:
        if not options["input_file"]:
            raise  # the agent wrote it, so it is ours
        raise errors.MeshError(f"{options['input_file']}: a line is not a flow record: {error!r}") from None
