"""Label keys, and how a policy's scope is added to its selectors."""

import pytest

from control import model
from control.policy import selectors

IN = model.Operator.IN


@pytest.mark.parametrize("key", ["a", "app.kubernetes.io/name", "a/b", "A_b.c-d", "a" * 63, "a." * 126 + "a/b"])
def test_label_keys(key: str) -> None:
    assert selectors.is_label_key(key)


@pytest.mark.parametrize("key", ["", "/a", "a/", "a/b/c", "-a", "a-", "a b", "A/b", "a" * 64, "a." * 127 + "a/b", "ä"])
def test_refused_label_keys(key: str) -> None:
    assert not selectors.is_label_key(key)


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("app", ("any", "app")),
        ("k8s:app", ("k8s", "app")),
        ("any:app", ("any", "app")),
        ("reserved:host", ("reserved", "host")),
        ("k8s:io.cilium.k8s.namespace.labels.a.b/c", ("k8s", "io.cilium.k8s.namespace.labels.a.b/c")),
        ("io.cilium.k8s.namespace.labels.a.b/c", ("any", "io.cilium.k8s.namespace.labels.a.b/c")),
        ("strange:app", None),
        ("k8s:", None),
        (":app", None),
        ("", None),
    ],
)
def test_sources(key: str, found: object) -> None:
    assert selectors.sourced_key(key) == found


def one(source: str, key: str, *values: str) -> model.Selector:
    return model.Selector((model.Requirement(source, key, IN, values),))


def test_peers_are_scoped_to_the_policys_namespace_unless_they_name_one() -> None:
    scope = selectors.scope_peer
    here = selectors.in_namespace("n")
    assert scope(model.Selector(), "n") == model.Selector((here,))
    assert scope(model.Selector(), "") == model.Selector((selectors.IS_ENDPOINT,))
    for source in ("any", "k8s"):
        named = one(source, model.NAMESPACE_KEY, "other")
        assert scope(named, "n") == named.with_requirements(selectors.IS_ENDPOINT)
        labelled = one(source, model.NAMESPACE_LABEL_PREFIX + "team", "a")
        assert scope(labelled, "n") == labelled.with_requirements(selectors.IS_ENDPOINT)
    reserved = one("reserved", "world", "")
    assert scope(reserved, "n") == reserved


def test_a_subject_is_always_in_its_own_namespace() -> None:
    elsewhere = one("k8s", model.NAMESPACE_KEY, "other")
    assert selectors.scope_subject(elsewhere, "n") == model.Selector((selectors.in_namespace("n"),))
