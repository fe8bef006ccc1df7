"""What proxies are told of mTLS, and when: with a real CA directory, and one that does not answer."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from control import model, proxy_feed
from control.agent import mtls, options, signers
from control.certificates.authority import Authority
from control.certificates.certificate import Certificate
from tests.hosts.wait import wait_until

DOMAIN = "cluster.local"


class Slow:
    """A CA whose file system hangs until `answers` is set."""

    def __init__(self, directory: Path) -> None:
        self._real = signers.Directory(directory, DOMAIN)
        self.answers = threading.Event()

    def roots(self, now: float, is_known: bool) -> tuple[Certificate, ...]:
        self.answers.wait(60)
        return self._real.roots(now, is_known)

    def authority(self, now: float) -> Authority:
        return self._real.authority(now)


class Place:
    def __init__(self, directory: Path) -> None:
        self.ca = Slow(directory / "ca")
        self.told: list[proxy_feed.Mesh] = []
        opts = options.Options(directory, directory, node_ips=("192.0.2.1",), mtls="strict", proxy=True)
        self.mtls = mtls.Mtls(opts, "here", self.told.append, self.ca)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.ca.answers.set()
    made.mtls.close()


def pods(*names: str) -> model.Snapshot:
    return model.Snapshot(
        workloads=tuple(
            model.Workload("shop", name, service_account=name, ips=(f"10.0.0.{n}",), netns="/n", interface="veth")
            for n, name in enumerate(names, 1)
        )
    )


def id(name: str) -> str:
    return f"spiffe://{DOMAIN}/ns/shop/sa/{name}"


def test_who_knows_an_owner_has_its_certificate(place: Place) -> None:
    place.ca.answers.set()
    place.mtls.start()
    names: list[str] = []
    for name in ("a", "b", "c"):
        names.append(name)
        assert place.mtls.take_up(pods(*names))
        assert not place.mtls.take_up(pods(*names)), "the same is nothing new"
    assert all({owner for owner, _ in each.owners.values()} <= each.leaves.keys() for each in place.told)
    assert place.told[-1].leaves.keys() == {id(name) for name in "abc"} and place.mtls.problems == ()
    assert place.mtls.status()["certificates"] == 3


def test_policy_waits_no_longer_than_a_second_for_a_ca_that_hangs(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mtls, "_SILENT_S", 0.1)
    place.mtls.start()
    began = time.monotonic()
    assert place.mtls.take_up(pods("a"))
    assert 0.9 < time.monotonic() - began < 3
    assert place.told[-1].leaves == {} and place.told[-1].owners == {"10.0.0.1": (id("a"), "")}
    assert "who signs does not answer" in place.mtls.problems[0]
    place.ca.answers.set()
    wait_until(lambda: place.told[-1].leaves.keys() == {id("a")}, "it has one when the CA answers")
    wait_until(lambda: place.mtls.problems == (), "nothing is wrong any more")
