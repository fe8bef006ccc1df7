"""By which interface a pod's packets come to the host's routing, as far as its links tell."""

from typing import Any

import pytest

from loader import links


class Link(dict[str, Any]):
    """A link as pyroute2 gives it."""

    def __init__(self, index: int, kind: str, **attributes: Any) -> None:
        super().__init__(index=index)
        self._kind = kind
        self._attributes = {f"IFLA_{name.upper()}": value for name, value in attributes.items()}

    def get_attr(self, name: str) -> Any:
        return self._attributes.get(name)

    def get_nested(self, *_: str) -> str:
        return self._kind


def pod(**attributes: Any) -> Link:
    return Link(3, "veth", **{"qdisc": "noqueue", "link": 2, "link_netnsid": 0, **attributes})


BRIDGE = Link(5, "bridge")


@pytest.mark.parametrize(
    ("found", "inlet"),
    [
        ([pod()], 3),
        ([pod(), BRIDGE, Link(7, "veth", link=3, link_netnsid=1)], 3),  # numbers of another namespace
        ([pod(), Link(2, "veth", link=3)], 3),  # both ends are here
        ([pod(master=5), BRIDGE], 5),
        ([pod(master=5), BRIDGE, Link(6, "vlan", link=5)], 0),
        ([pod(master=5), BRIDGE, Link(6, "vlan", link=5, link_netnsid=4)], 5),
        ([pod(master=5), BRIDGE, Link(6, "vlan", link=9)], 5),
        ([pod(), Link(6, "vlan", link=3)], 0),
        ([pod(master=5), BRIDGE, Link(6, "vlan", link=3)], 0),
        ([pod(master=5), Link(5, "bridge", master=9), Link(9, "vrf")], 0),
        ([pod(master=9), Link(9, "vrf")], 0),
        ([pod(master=9), Link(9, "openvswitch")], 0),
        ([pod(master=5)], 0),  # which went while they were listed
    ],
)
def test_where_packets_come_to_routing(found: list[Link], inlet: int) -> None:
    assert links.ends_among(found)[3] == links.HostEnd(True, inlet)


def test_only_veths_are_ends_and_a_queue_is_told() -> None:
    found = [pod(qdisc="tbf"), BRIDGE, Link(6, ""), Link(8, "macvlan", link=6, qdisc="noqueue")]
    assert links.ends_among(found) == {3: links.HostEnd(False, 3)}
