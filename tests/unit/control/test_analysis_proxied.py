"""What needs the proxy of pairs is found about as soon as the pairs are."""

import ipaddress
import time

from control import model
from control.analysis import portset, proxied
from control.analysis.connectivity import analyse
from loader import abi
from tests.unit.control.test_analysis_connectivity import Doc, workload
from tests.unit.control.test_analysis_diff_random import read

RANGES = 3000
REQUESTS: Doc = {"toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}], "rules": {"http": [{"method": "GET"}]}}]}


def plain(number: int) -> Doc:
    ports = {"ports": [{"port": str(1000 + number), "protocol": "TCP"}]}
    return {"toCIDR": [f"{ipaddress.IPv4Address('10.0.0.0') + 256 * number}/24"], "toPorts": [ports]}


def test_beside_thousands_of_ranges_each_with_ports_of_its_own() -> None:
    spec = {"endpointSelector": {}, "egress": [REQUESTS, *map(plain, range(RANGES))]}
    policy = {
        "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "a", "namespace": "x"},
        "spec": spec,
    }  # fmt: skip
    snapshot = model.Snapshot((workload("p", namespace="x"),), policies=read([policy]))
    start = time.process_time()
    found = analyse(snapshot)
    pairs_took = time.process_time() - start
    more = proxied.Proxied(snapshot, found)
    assert time.process_time() - start < 3 * pairs_took + 1  # each range with each it was five times as long
    pod, *outside = range(len(found.ends))
    assert len(outside) == RANGES + 1
    for end in outside:
        assert more.of(pod, end, found.allowed(pod, end)) == portset.of_specs([model.PortSpec(abi.Proto.TCP, 80, 80)])
