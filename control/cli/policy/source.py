"""Manifests for the commands that read nothing else: what is wrong with them is told before anything is worked out."""

import functools
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from control import model
from control.cli.paths import WORD
from control.policy import objectnames
from control.source import manifests, remarks, unserved
from control.terminal import printable

BAD_INPUT = 2
_FILES = "Manifests: a file, a directory with all below it, or - for standard input. May be given more than once."
NO_WORKLOADS = "the files declare no workloads (Pods, Deployments, ...)"


def namespace(command: Callable[..., None]) -> Callable[..., None]:
    """Add -n NAMESPACE; the command takes it as `namespace`."""
    text = "The namespace of documents that name none."
    return click.option(
        "-n", "--namespace", metavar="NAMESPACE", default="default", show_default=True, help=text, callback=_label
    )(command)


def _label(context: click.Context, option: click.Parameter, text: str) -> str:
    if not objectnames.DNS_LABEL.fullmatch(text):
        raise click.BadParameter(printable(f"{text or 'nothing'} is no namespace ({objectnames.DNS_LABEL_RULE})"))
    return text


def files(command: Callable[..., None]) -> Callable[..., None]:
    """Add -f FILE|DIR, as often as one likes, and -n; the command takes them as `files` and `namespace`."""
    option = click.option(
        "-f", "--file", "files", type=WORD, multiple=True, required=True, metavar="FILE|DIR", help=_FILES
    )
    return option(namespace(command))


def paths(command: Callable[..., None]) -> Callable[..., None]:
    """Add what `files` adds, and the same manifests without -f, for a command that has no other arguments."""

    @functools.wraps(command)
    def with_both(paths: tuple[str, ...], files: tuple[str, ...], **given: Any) -> None:
        if not paths and not files:
            raise click.UsageError("no manifests are given: name a file or a directory, as in -f DIR")
        command(files=(*files, *paths), **given)

    option = click.option("-f", "--file", "files", type=WORD, multiple=True, metavar="FILE|DIR", help=_FILES)
    return click.argument("paths", type=WORD, nargs=-1, metavar="[FILE|DIR]...")(option(namespace(with_both)))


def read(paths: Sequence[str], namespace: str, must_hold: bool = False) -> model.LoadResult:
    """Return what files, and all files below directories, declare together; `must_hold` as in manifests.load."""
    return manifests.load(paths, namespace, must_hold)


def load(paths: Sequence[str], namespace: str) -> model.Snapshot:
    """Return what manifests declare; where any is wrong, all problems are told and the command ends with 2."""
    return load_each([paths], namespace)[0]


def load_each(several: Sequence[Sequence[str]], namespace: str) -> list[model.Snapshot]:
    """Return what each of several sets of manifests declares, as `load` does; what is told of two is told once."""
    found = manifests.load_each(several, namespace)
    problems = list(dict.fromkeys(str(problem) for each in found for problem in each.problems))
    _tell(problems)
    if problems:
        raise click.exceptions.Exit(BAD_INPUT)
    advice = list({(a.path, a.message): a for each in found for a in each.advice}.values())
    if len(advice) > 1:  # what was asked for would be lost among them
        # Each set by itself: what two of them declare alike would be declared twice.
        warned = [paths for paths, each in zip(several, found, strict=True) if each.advice]
        commands = list(dict.fromkeys(f"`{_validate(paths, namespace)}`" for paths in warned))
        _tell([f"{len(advice)} warnings: {' and '.join(commands)} {'tell' if commands[1:] else 'tells'} them"])
    else:
        _tell(f"warning: {each}" for each in advice)
    return [each.snapshot for each in found]


def _validate(paths: Iterable[str], namespace: str) -> str:
    where = ["-n", namespace] if namespace != "default" else []
    return shlex.join(
        ["sockmesh", "policy", "validate", *where, *(w for path in dict.fromkeys(paths) for w in ("-f", path))]
    )


def tell_of_names(names: Sequence[str]) -> None:
    """Say that what rules for DNS names open is in no pair, where there are such rules."""
    if names:
        shown = ", ".join(names[:5]) + (", ..." if names[5:] else "")
        _tell([f"warning: not among these: what rules for DNS names open ({shown}); no file tells their addresses"])


def tell_of_bytes(snapshot: model.Snapshot) -> None:
    """Say that what rules for bytes allow is in pairs and needs the proxy, where there are such rules."""
    if asking := list(unserved.by_proxy(snapshot)):
        places = list(dict.fromkeys(f"{each.path}, {each.file}:{each.line}" for each in asking))
        shown = "; ".join(places[:5]) + ("; ..." if places[5:] else "")
        _tell([f"warning: among these, and only where the node has the proxy: what {shown} allow"])


def tell_of_kinds(kinds: Sequence[str]) -> None:
    """Say what else pairs do not show."""
    _tell(f"warning: the pairs do not show {kind}" for kind in kinds)


def tell_of_audits(policies: Sequence[model.Policy]) -> None:
    """Say that policies in audit mode are in no pair, where there are such policies."""
    if policies:
        shown = ", ".join(map(remarks.shown, policies[:5])) + (", ..." if policies[5:] else "")
        _tell([f"warning: not among these: what policies in audit mode ({shown}) would allow or refuse"])


def tell(line: str) -> None:
    """Say something on standard error."""
    _tell([line])


def _tell(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(f"sockmesh: {printable(line)}", err=True)
