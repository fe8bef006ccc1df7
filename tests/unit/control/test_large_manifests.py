"""Manifests within every bound that are made to take long: an answer, or an error that names the place, comes soon."""

import json
import time
from pathlib import Path
from typing import Any

from control import model
from control.source import manifests

SOON = 2  # seconds of processor time: twice what is promised, for machines that others use


def policy(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"endpointSelector": {}, **spec},
    }


def pod(name: str, **labels: str) -> dict[str, Any]:
    spec = {"containers": [{"name": "c"}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "labels": labels},
        "spec": spec,
    }


def written(folder: Path, *items: dict[str, Any]) -> Path:
    file = folder / "a.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    return file


def load_soon(file: Path) -> model.LoadResult:
    start = time.process_time()
    result = manifests.load([file])
    assert time.process_time() - start < SOON
    return result


def port(number: int | str) -> dict[str, str]:
    return {"port": str(number), "protocol": "TCP"}


def test_a_subject_of_many_labels_and_many_ports_with_rules(tmp_path: Path) -> None:
    ports = [[port(number) for number in range(start, start + 40)] for start in range(1, 4001, 40)]
    rules = [{"toPorts": [{"ports": some, "rules": {"http": [{}]}} for some in ports]}]
    labels = {f"l{number}": "a" for number in range(8000)}
    result = load_soon(written(tmp_path, policy("p", endpointSelector={"matchLabels": labels}, ingress=rules)))
    assert result.problems == ()
