"""What is wrong with an object or a rule that could be read: where it stands, and in whose name."""

import itertools
import sys
from collections.abc import Iterable, Iterator

from control import model
from control.policy import words


def shown(policy: model.Policy) -> str:
    """Return what a policy is called in a message."""
    return words.policy_word(policy)


def items(section: model.Section) -> Iterator[list[model.Rule]]:
    """Yield what each item of a spec's lists means: several rules of one path where its ports differ in L7, and one
    mistake all the same.
    """
    return (list(rules) for _, rules in itertools.groupby(section.rules, key=lambda rule: rule.path))


def problem_at(source: str, path: str, message: str, whose: str = "") -> model.Problem:
    """Return the problem of an object or rule, whose source is "file:line", or a file; `whose` names the object."""
    file, line = _place(source)
    return model.Problem(file, " ".join(filter(None, (whose, path))), message, line, within=path)


def file_of(source: str) -> str:
    """Return the file of a source, with its line or without.

    >>> file_of("shop.yaml:12"), file_of("shop.yaml")
    ('shop.yaml', 'shop.yaml')
    """
    return _place(source)[0]


def _place(source: str) -> tuple[str, int]:
    file, _, line = source.rpartition(":")
    return (file, int(line)) if file and line.isdecimal() else (source, 0)


def of_policy(policy: model.Policy, path: str, source: str, message: str) -> model.Problem:
    """Return the problem of what stands at a path of a policy."""
    return problem_at(source, path, message, shown(policy))


def in_order(problems: Iterable[model.Problem]) -> list[model.Problem]:
    """Return problems by file, as files were met, and in each by line; what is of no line comes last."""
    found = list(problems)
    files = {file: place for place, file in enumerate(dict.fromkeys(problem.file for problem in found))}
    return sorted(found, key=lambda problem: (files[problem.file], problem.line or sys.maxsize))
