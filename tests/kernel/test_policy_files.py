"""An edit is in force in less than a second; a file that is wrong changes nothing and is reported."""

import functools
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import yaml

from tests.hosts.wait import PATIENCE, wait_until
from tests.kernel.street import Street, app, nobody, policy

WITHIN_S = 1.0 * PATIENCE


def seconds_until(street: Street, wanted: str, port: int, since: float) -> float:
    """Return how long after `since` the client's connections go as wanted.

    One that is under way at that very moment, past its hook and not yet at the other end's, waits as for a lost packet.
    """
    order = """
deadline = time.monotonic() + 5
while connect(ip, port, 0.3)[0] != wanted and time.monotonic() < deadline:
    time.sleep(0.005)
result = time.monotonic()
"""
    return float(street["client"].do(order, ip=street.ip("server"), port=port, wanted=wanted)) - since


def test_edits_take_effect_at_once(street: Street) -> None:
    took = []
    for documents, wanted in (
        ([nobody("closed", "server", "ingress")], "EPERM"),
        ([policy("open", "server", ingress=[{"fromEndpoints": [app("client")]}])], "ECONNREFUSED"),
        ([policy("other", "server", ingress=[{"fromEndpoints": [app("third")]}])], "EPERM"),
    ):
        since = time.monotonic()
        street.mesh.apply("policy", *documents)
        took.append(seconds_until(street, wanted, 4401, since))
    since = time.monotonic()
    street.mesh.delete("policy")
    took.append(seconds_until(street, "ECONNREFUSED", 4401, since))
    print("in force after", [f"{seconds * 1000:.0f} ms" for seconds in took])
    assert max(took) < WITHIN_S


def test_edits_take_effect_in_a_directory_that_stands_in_for_another(street: Street) -> None:
    """Moved there, and made again under its name; with the edit itself, and with the next one."""
    config = street.mesh.config
    new, old = config.with_name("config-new"), config.with_name("config-old")
    took = []
    for number, swap in enumerate(("move", "remove")):
        shutil.copytree(config, new)
        since = time.monotonic()
        if swap == "move":
            config.rename(old)
            new.rename(config)
        else:
            shutil.rmtree(config)
            shutil.copytree(new, config)
        street.mesh.apply("policy", nobody("closed", "server", "ingress"))
        took.append(seconds_until(street, "EPERM", 4405 + number, since))
        since = time.monotonic()
        street.mesh.apply("policy", policy("open", "server", ingress=[{"fromEndpoints": [app("client")]}]))
        took.append(seconds_until(street, "ECONNREFUSED", 4405 + number, since))
    print("in force after", [f"{seconds * 1000:.0f} ms" for seconds in took])
    assert max(took) < WITHIN_S
    shutil.rmtree(old)
    shutil.rmtree(new)


def test_edits_take_effect_in_a_volume_that_is_mounted_again_at_once(street: Street) -> None:
    """Its directory has the numbers that the one before had, whose watch the kernel has taken away."""
    config = street.mesh.config
    files = {file.name: file.read_text() for file in config.iterdir()}

    def mount() -> None:
        subprocess.run(["mount", "-t", "tmpfs", "none", str(config)], check=True)
        for name, text in files.items():
            (config / name).write_text(text)

    street.node.run_record.note("mount", str(config))
    mount()
    try:
        street.mesh.settle()
        since = time.monotonic()
        subprocess.run(["umount", str(config)], check=True)
        mount()
        street.mesh.apply("policy", nobody("closed", "server", "ingress"))
        took = [seconds_until(street, "EPERM", 4407, since)]
        since = time.monotonic()
        street.mesh.apply("policy", policy("open", "server", ingress=[{"fromEndpoints": [app("client")]}]))
        took.append(seconds_until(street, "ECONNREFUSED", 4407, since))
    finally:
        subprocess.run(["umount", str(config)], check=True)
    print("in force after", [f"{seconds * 1000:.0f} ms" for seconds in took])
    assert max(took) < WITHIN_S


def test_edits_take_effect_that_are_made_elsewhere(street: Street) -> None:
    """In the file that a link leads to, and in one that has another name outside."""
    outside, file = street.mesh.config.with_name("outside.yaml"), street.mesh.config / "policy.yaml"
    took = []
    links: tuple[Callable[[Path, Path], None], ...] = (os.symlink, os.link)
    for number, link in enumerate(links):
        outside.write_text(yaml.safe_dump(nobody("closed", "server", "ingress")))
        link(outside, file)
        street.mesh.settle()
        assert street.connect("client", street.ip("server"), 4408 + number) == "EPERM"
        since = time.monotonic()
        outside.write_text(yaml.safe_dump(nobody("closed", "third", "ingress")))
        took.append(seconds_until(street, "ECONNREFUSED", 4408 + number, since))
        file.unlink()
    outside.unlink()
    print("in force after", [f"{seconds * 1000:.0f} ms" for seconds in took])
    assert max(took) < WITHIN_S


def problems(street: Street) -> list[str]:
    return list(street.mesh.call("status")["problems"])


def matching(street: Street, reason: str) -> list[str]:
    """Return the problems of this kind; for a moment a file may be there without the text that is being written."""
    return [problem for problem in problems(street) if re.match(reason, problem)]


def test_a_broken_file_changes_nothing_and_is_reported(street: Street) -> None:
    street.enforce(nobody("closed", "server", "ingress"))
    file = street.mesh.config / "policy.yaml"
    good = file.read_text()
    for text, reason in (
        (good.replace("ingress:", "ingres:"), r"policy\.yaml:\d+: spec\.ingres: unknown key"),
        (good.replace("default", "def ault"), r"policy\.yaml:\d+: metadata\.namespace:"),
        (good + "\n  : {", r"policy\.yaml:\d+: not YAML"),
        ("kind: Nonsense\napiVersion: v1\nmetadata: {name: x}\n", r"policy\.yaml:\d+: unknown kind"),
    ):
        file.write_text(text)
        told = wait_until(functools.partial(matching, street, reason), "the problem is in the status")
        assert len(told) == 1
        assert told[0] in street.mesh.log.read_text()
        assert street.connect("client", street.ip("server"), 4410) == "EPERM"
        file.write_text(good)
        wait_until(lambda: not problems(street), "the file is mended")
        assert "no longer: " + told[0].partition("; what the file")[0] in street.mesh.log.read_text()
    assert street.connect("third", street.ip("server"), 4410) == "EPERM"


def test_other_files_count_while_one_is_broken(street: Street) -> None:
    street.enforce(nobody("closed", "server", "ingress"))
    (street.mesh.config / "policy-broken.yaml").write_text("{")
    wait_until(lambda: problems(street), "the problem is in the status")
    street.mesh.apply("policy", nobody("closed", "third", "ingress"))
    wait_until(lambda: street.connect("client", street.ip("third"), 4420) == "EPERM", "the other file is in force")
    street.mesh.settle()  # for a moment of the switch, what either edition denies is denied
    assert street.connect("client", street.ip("server"), 4420) == "ECONNREFUSED"
    assert street.connect("client", street.ip("third"), 4420) == "EPERM"
