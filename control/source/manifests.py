"""Manifests to a `Snapshot`, for commands that answer without a cluster: what people have in files, or kubectl prints.

Nothing is in force here, so nothing must be kept or closed: every problem of every file is told, and whatever could be
read is in the snapshot all the same.
"""

import dataclasses
import functools
import os
import sys
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from control import model
from control.policy import field, parse
from control.source import (
    assemble,
    claims,
    content,
    document,
    kinds,
    kubernetes,
    mixed,
    nobody,
    objects,
    owners,
    portnames,
    references,
    remarks,
    unlearned,
    unserved,
    void,
    walk,
)

STDIN = "-"
MAX_YAML = content.MAX_FILE
MAX_JSON = 128 << 20  # what kubectl prints of ten thousand pods
# JSON is read faster: three thousand Deployments with a policy each are 145,000 values.
MAX_JSON_VALUES = 180_000
BYTES_PER_VALUE = 80  # so that a large file may hold more, and takes no longer for each megabyte of it

NOTHING_PIPED = "holds no document: did the command before the pipe fail?"
NOTHING_THERE = "holds no document: was something to be written into it?"
TEMPLATE = objects.RENDER.replace("part of a chart?", "a template?")

# A service's ports on nodes and the like mean nothing to policy.
_SERVICE = {
    **objects.OUTLINE,
    "spec": {
        **dict.fromkeys(("clusterIP", "clusterIPs", "selector", "endpoints")),
        "ports": [dict.fromkeys(("name", "port", "targetPort", "protocol"))],
    },
}
READERS = {
    **objects.READERS,
    **kubernetes.READERS,
    ("v1", "Service"): dataclasses.replace(objects.READERS["v1", "Service"], shape=_SERVICE),
}


def _is_empty(text: str) -> bool:
    return all(not line.strip() or line.lstrip().startswith(("#", "---")) for line in text.splitlines())


def load(
    paths: Iterable[str | os.PathLike[str]], namespace: str = "default", must_hold: bool = False
) -> model.LoadResult:
    """Return what files, and all files below directories, declare; never raises for what is in them.

    "-" is standard input. Of two objects with one name the first counts. What names no namespace is in `namespace`.
    `must_hold`: a file that is named and holds no document is a problem; else it is a warning.
    """
    return load_each([paths], namespace, must_hold)[0]


def load_each(
    several: Iterable[Iterable[str | os.PathLike[str]]], namespace: str = "default", must_hold: bool = False
) -> list[model.LoadResult]:
    """Return what each of several sets of files declares, to be compared: a pod that counts by itself in one of them,
    beside its controller's template, does in all.
    """
    with document.uncollected():
        read = [_read(paths, namespace, must_hold) for paths in several]
        apart = owners.alone([found.objects for found in read])
        return [found.result(apart) for found in read]


def _read(paths: Iterable[str | os.PathLike[str]], namespace: str, must_hold: bool) -> "_Found":
    given = [os.fspath(path) for path in paths]
    found = _Found(
        namespace if namespace != "default" else "",  # what readers take it for
        frozenset(given if must_hold else ()),
    )
    for file, said in walk.files(given):
        if not said:
            found.read(file)
        else:
            told = found.advice if said in walk.HARMLESS else found.problems
            told.append(model.Problem(content.printable(file), "", said))
    return found


class _Found:
    """What has been read so far."""

    def __init__(self, namespace: str, named: Container[str]) -> None:
        self.namespace, self._named = namespace, named
        self.objects: list[model.Object] = []
        self.problems: list[model.Problem] = []
        self.advice: list[model.Problem] = []
        self.skipped: list[objects.Skipped] = []

    def read(self, file: str) -> None:
        report = field.Report(content.printable(file) if file != STDIN else "standard input")
        try:
            text, is_json = _text(file)
        except content.Unreadable as error:
            report.add("", str(error), error.line)
        else:
            self._read_text(text, is_json, report)
            if _is_empty(text):  # a check of what a template or a command has made would be green for nothing
                if file == STDIN or file in self._named:
                    report.add("", NOTHING_PIPED if file == STDIN else NOTHING_THERE)
                else:
                    self.advice.append(model.Problem(report.file, "", NOTHING_THERE))
        self.problems += _with_remedy(remarks.in_order(report.problems))
        if report.count > len(report.problems):
            more = f"more problems are not told (at least {report.count - len(report.problems)})"
            self.problems.append(model.Problem(report.file, "", more))
        self.advice += report.advice

    def _read_text(self, text: str, is_json: bool, report: field.Report) -> None:
        most = max(MAX_JSON_VALUES if is_json else objects.MAX_VALUES, len(text) // BYTES_PER_VALUE)
        nodes, failures = document.parse_all(text, is_json, functools.partial(_means_nothing, report))
        parsed = objects.read_documents(nodes, report, READERS, most, skips=True, namespace=self.namespace)
        remedy = TEMPLATE if "{{" in text else ""
        for failure in failures:
            report.add(failure.path, f"{failure}{remedy}", failure.line)
            remedy = ""
        self.objects += (p.obj for p in parsed if p.obj is not None)
        self.skipped += (p.skipped for p in parsed if p.skipped)

    def result(self, apart: Container[owners.Key]) -> model.LoadResult:
        """Return all of it; `apart`: the pods that count by themselves."""
        taken: claims.Taken = {}
        kept: list[model.Object] = []
        settled, folded, nodes = owners.settle(self.objects, apart)
        for obj in settled:
            clashes = claims.clashes((obj,), taken)
            self.problems += (remarks.problem_at(obj.source, "", each) for _, each in clashes)
            if not clashes:
                kept += claims.take((obj,), taken)
        skipped = dict(sorted(Counter(" ".join(each.kind) for each in self.skipped).items()))
        snapshot = dataclasses.replace(assemble.snapshot(kept), folded=folded, folded_nodes=nodes)
        advice = (
            *self.advice,
            *_passed_over(self.skipped),
            *portnames.unnamed_ports(snapshot),
            *references.to_nothing(snapshot),
            *references.unknown_namespaces(snapshot),
            *nobody.selected(snapshot),
            *mixed.protocols(snapshot),
            *void.without_effect(snapshot),
            *unserved.entities(snapshot),
            *unserved.by_proxy(snapshot),
            *unserved.by_name(snapshot),
            *unlearned.names(snapshot),
        )
        return model.LoadResult(
            snapshot, tuple(remarks.in_order(self.problems)), tuple(remarks.in_order(advice)), skipped
        )


def _means_nothing(report: field.Report, node: field.Node) -> bool:
    """Tell whether nobody looks into a document, whatever is in it."""
    place = field.Field(node, "", report)
    kind = objects.kind_of(place)
    if kind is None:
        return isinstance(node.value, dict) and "<<" not in node.value and objects.is_no_object(place)
    known = {*parse.KINDS, *READERS}
    return kind not in known and not kind[1].endswith("List") and not kinds.wrong(kind, known, skips=True)


def _passed_over(skipped: Iterable[objects.Skipped]) -> Iterator[model.Problem]:
    """Yield what should be known of objects that nobody reads: policies of other kinds, and what makes pods."""
    found: dict[tuple[bool, objects.Kind], list[objects.Skipped]] = {}
    for each in skipped:
        if each.has_pods or kinds.is_policy(each.kind):
            found.setdefault((each.has_pods, each.kind), []).append(each)
    ours = {name for _, name in (*parse.KINDS, *READERS)}
    for each in skipped:
        if each.kind[0].startswith("kustomize.config.k8s.io/"):
            yield remarks.problem_at(each.source, "", f"{each.kind[1]} is not applied here ({objects.KUSTOMIZE})")
    for (has_pods, (api_version, name)), those in found.items():
        what = name if name not in ours else f"{name} of {api_version}"
        what = what if what.isprintable() and len(what) <= 80 else field.quote(what)
        not_so = "not read, so it has no pods here" if has_pods else "not evaluated here"
        many = f"{len(those)} of them {'is' if len(those) == 1 else 'are'} passed over"
        yield remarks.problem_at(those[0].source, "", f"{what} is {not_so}: {many}", those[0].path)


def _with_remedy(problems: list[model.Problem]) -> list[model.Problem]:
    """Return the problems of one file, of which the first that quotes a template says what to do."""
    out = list(problems)
    quoting = [index for index, problem in enumerate(out) if "{{" in problem.message]
    if quoting and not any(TEMPLATE in problem.message for problem in out):
        problem = out[quoting[0]]
        out[quoting[0]] = dataclasses.replace(problem, message=problem.message + TEMPLATE)
    return out


def _text(file: str) -> tuple[str, bool]:
    """Return what a file holds, and whether it is JSON; raises Unreadable."""
    raw, is_json = _content(file)
    return content.text_of(raw), is_json


def _content(file: str) -> tuple[bytes, bool]:
    if file == STDIN:
        if sys.stdin is None:
            raise content.Unreadable("cannot be read: it is closed (give a file, or pipe manifests in)")
        try:
            raw = sys.stdin.buffer.read(MAX_JSON + 1)
        except (OSError, ValueError) as error:  # it may have been closed
            raise content.Unreadable(f"cannot be read: {error}") from None
        is_json = raw[:4096].lstrip().startswith(b"{")
        most = MAX_JSON if is_json else MAX_YAML
        if len(raw) > most:
            raise _too_large(most, is_json)
        return raw, is_json
    is_json = file.endswith(".json")
    most = MAX_JSON if is_json else MAX_YAML
    try:
        return content.bytes_of(Path(file), most), is_json
    except content.TooLarge:
        raise _too_large(most, is_json) from None


def _too_large(most: int, is_json: bool) -> content.Unreadable:
    way = "split it" if is_json else f"split it, or give it as JSON, of which {MAX_JSON} bytes are read"
    return content.Unreadable(f"is larger than {most} bytes ({way})")
