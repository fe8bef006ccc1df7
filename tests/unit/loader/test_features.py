"""Feature probes: what they say of failures, and that a process without rights gets words and no traceback."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loader import features, probes
from loader.errors import FeatureUnsupported
from loader.features import Feature, Probe
from loader.probes import CannotLook

ROOT = Path(__file__).resolve().parents[3]


def outcome(error: Exception | None) -> Feature:
    def look() -> str:
        if error:
            raise error
        return "seen"

    return Probe("thing", "policy", "mend it", look).run()


def test_what_works_has_a_detail_and_no_remedy() -> None:
    assert outcome(None) == Feature("thing", True, "seen", "", "policy")


@pytest.mark.parametrize(
    "error, detail",
    [
        (OSError(errno.EINVAL, "Invalid argument"), "Invalid argument"),
        (FeatureUnsupported("no such struct"), "no such struct"),
    ],
)
def test_a_failure_says_what_and_how_to_mend_it(error: Exception, detail: str) -> None:
    assert outcome(error) == Feature("thing", False, detail, "mend it", "policy")


def test_what_could_not_be_seen_is_not_to_be_mended() -> None:
    remedy = "run it as root" if probes.missing_capabilities() else ""
    assert outcome(CannotLook("not mounted")) == Feature("thing", None, "not mounted", remedy, "policy")


def test_every_probe_has_a_name_of_its_own_and_a_remedy() -> None:
    names = [probe.name for probe in features.PROBES]
    assert len(names) == len(set(names))
    assert all(probe.remedy for probe in features.PROBES)


CHILD = """
import dataclasses, json, os
from loader import features
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
print(json.dumps([dataclasses.asdict(f) for f in features.probe()]))
"""


def test_without_rights_the_privileges_are_missing_and_the_rest_could_not_be_tried() -> None:
    child = subprocess.run(
        [sys.executable, "-c", CHILD], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    found = {entry["name"]: Feature(**entry) for entry in json.loads(child.stdout)}
    assert list(found) == [probe.name for probe in features.PROBES]
    assert found["privileges"].ok is False and "CAP_SYS_ADMIN" in found["privileges"].detail
    for name in ("map: socket hash", "programs: packet filter", "links: cgroup", "filters: clsact"):
        assert found[name].ok is None and found[name].detail, found[name]
    assert all(feature.remedy for feature in found.values() if not feature.ok)
    assert {feature.remedy for feature in found.values() if feature.ok is None} == {"run it as root"}
    assert child.stderr == ""
