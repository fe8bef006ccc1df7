"""What the node proxy says of a DNS query, as a record."""

import json
from typing import Any

import pytest

from control import names
from control.flow import directory, lookups, record
from loader import abi

SEEN = lookups.Seen(
    began=1_000, ended=2_001_000, client="10.0.0.1", client_port=40000, server="10.0.0.2", server_port=53, proto=17,
    source_endpoint=1, source_identity=300, target_endpoint=2, target_identity=301, egress_rule=0, ingress_rule=0,
    refused_at=int(abi.Direction.EGRESS), allowed=True, query="web.example.com", type=28, rcode=0,
    addresses=["2001:db8::1"], ttl=30, cnames=["alias.example.net"], why="",
)  # fmt: skip


def inner(seen: lookups.Seen) -> dict[str, Any]:
    found: dict[str, Any] = lookups.flow(seen, directory.Directory(names.Names()), record.ClockOffset(0), "id")["flow"]
    return found


def test_an_answer() -> None:
    flow = inner(lookups.Seen.read(json.loads(json.dumps(SEEN))))
    assert (flow["Type"], flow["verdict"], flow["event_type"]) == ("L7", "FORWARDED", {"type": 129})
    assert flow["l7"] == {
        "type": "RESPONSE",
        "latency_ns": "2000000",
        "dns": {
            "query": "web.example.com.",
            "qtypes": ["AAAA"],
            "observation_source": "proxy",
            "ips": ["2001:db8::1"],
            "ttl": 30,
            "cnames": ["alias.example.net."],
        },
    }
    assert flow["Summary"] == "DNS Answer 2001:db8::1 TTL: 30 (Proxy web.example.com. AAAA)"


def test_a_refusal() -> None:
    flow = inner(SEEN._replace(allowed=False, rcode=5, addresses=[], cnames=[], ttl=0, type=64999, why="so"))
    assert flow["verdict"] == "DROPPED" and flow["traffic_direction"] == "EGRESS"
    assert flow["l7"]["dns"]["rcode"] == 5 and flow["l7"]["dns"]["qtypes"] == ["TYPE64999"]
    assert flow["extensions"]["value"]["sockmesh"]["why"] == "so"


@pytest.mark.parametrize(
    "wrong", [{"ttl": "30"}, {"addresses": "x"}, {"cnames": [1]}, {"allowed": 1}, {"query": None}], ids=str
)
def test_what_a_proxy_cannot_have_meant(wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        lookups.Seen.read(list(SEEN._replace(**wrong)))


def test_a_field_too_few() -> None:
    with pytest.raises(TypeError):
        lookups.Seen.read(list(SEEN)[:-1])
