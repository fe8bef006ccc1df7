"""References of rules to CIDR groups, written out as ranges."""

import ipaddress

import pytest

from control import model
from control.policy import refer
from loader import abi


def prefix(text: str) -> model.Prefix:
    net = ipaddress.ip_network(text)
    return model.Prefix(net.version, int(net.network_address), net.prefixlen)


@pytest.mark.parametrize(
    ("excepts", "left"),
    [
        ((), {"10.1.0.0/16": (), "192.0.2.0/24": ()}),
        (("10.1.2.0/24",), {"10.1.0.0/16": ("10.1.2.0/24",), "192.0.2.0/24": ()}),
        (("10.1.0.0/16",), {"192.0.2.0/24": ()}),
        (("10.0.0.0/8",), {"192.0.2.0/24": ()}),
        (("0.0.0.0/0",), {}),
        (("::/0",), {"10.1.0.0/16": (), "192.0.2.0/24": ()}),
    ],
)
def test_a_range_inside_an_exception_is_nobody(excepts: tuple[str, ...], left: dict[str, tuple[str, ...]]) -> None:
    group = model.CidrGroup("g", prefixes=(prefix("10.1.0.0/16"), prefix("192.0.2.0/24")))
    peer = model.CidrGroupPeer("g", excepts=tuple(map(prefix, excepts)))
    rule = model.Rule(abi.Direction.INGRESS, abi.Verdict.ALLOW, (peer,), None, "spec.ingress[0]")
    both = frozenset(abi.Direction)
    given = model.Section("spec", model.Selector(), both, both, (rule,))
    policy = model.Policy("CiliumNetworkPolicy", "n", "p", (given,))
    (section,) = refer.policy_written_out(policy, refer.Referents((group,))).sections
    wanted = tuple(model.CidrPeer(prefix(one), tuple(map(prefix, inner))) for one, inner in left.items())
    assert section.rules[0].peers == wanted
