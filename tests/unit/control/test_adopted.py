"""What a predecessor left in force follows its pods."""

import dataclasses
from types import SimpleNamespace
from typing import Any, cast

from control import compile as compiler
from control import names
from control.agent import adopted, workloads
from loader import abi


def test_one_that_is_elsewhere_on_the_host_is_led_to_there() -> None:
    old = abi.Endpoint.blank(id=1, identity=256, set_id=4, ifindex=5, netns_cookie=11, nsid=7, mac=1, inlet=5)
    have: dict[str, dict[Any, Any]] = {name: {} for name in compiler.MAP_NAMES}
    have["endpoints"] = {abi.EndpointKey(1): old}
    have["endpoint_ifaces"] = {abi.IfaceKey(5): abi.EndpointRef(1)}
    known = names.Names(endpoints={1: names.EndpointName(1, "shop", "web", 256, netns="web", interface="v-web")})
    facts = compiler.EndpointFacts(11, 6, 7, mac=2, inlet=9)
    survey = workloads.Survey({("shop", "web"): facts}, {}, [])
    loaded = cast(Any, SimpleNamespace(is_ours=lambda index: False))
    want = adopted.Adopted(loaded, have, known).moved(have, survey)
    assert want["endpoints"] == {abi.EndpointKey(1): dataclasses.replace(old, ifindex=6, mac=2, inlet=9)}
    assert want["endpoint_ifaces"] == {abi.IfaceKey(6): abi.EndpointRef(1)}
