"""An edit that changes more than one end: at no moment do two ends let through what each of its states refuses."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from loader import abi
from tests.hosts import Mesh, Node, Pod
from tests.kernel.pairs import Maker, connect, receive
from tests.kernel.puppet import Puppet
from tests.kernel.street import policy

pytestmark = pytest.mark.kernel
ROUNDS = 25
LEAK = "flood_off = flood(udp_packet(mine, ip, 4712, 4712, word), ip)"
Json = dict[str, Any]


@pytest.fixture
def node() -> Iterator[Node]:
    with Node("editions") as made:
        made.pod("one", labels={"app": "one", "r": "bad"})
        made.pod("two", labels={"app": "two", "r": "good"})
        made.pod("aim")
        yield made


def under_edits(node: Node, mesh: Mesh, ways: list[tuple[Pod, str, Pod]], edit: Callable[[int], None]) -> set[str]:
    """Return what is heard of packets from a pod (with this address) to another while edits come into force."""
    puppets = {pod.name: Puppet(pod, ears=True) for pod in node.pods.values()}
    floods = []
    for number, (source, address, target) in enumerate(ways):
        name = f"off{number}"
        puppets[source.name].do(
            LEAK.replace("flood_off", name), ip=target.ip, mine=address, word=f"{source.name}-{number}"
        )
        floods.append((source.name, name))
    for number in range(ROUNDS):
        edit(number)
        assert mesh.call("reconcile")["problems"] == []
    sent = [puppets[pod].do(f"result = {name}()") for pod, name in floods]
    assert min(sent) > 1000
    return set(itertools.chain.from_iterable(puppet.do("result = heard()") for puppet in puppets.values()))


def test_a_deny_moves_to_the_other_end(node: Node) -> None:
    one, aim = node.pods["one"], node.pods["aim"]
    denies = [policy("deny", name, egress=[{}], ingress=[{}]) for name in ("one", "aim")]
    with Mesh(node, [denies[0]]) as mesh:
        ways = [(one, one.ip, aim), (aim, aim.ip, one)]
        assert not under_edits(node, mesh, ways, lambda number: mesh.apply("policy-0", denies[(number + 1) % 2]))


@pytest.mark.parametrize("others", [False, True], ids=["as they are", "as others"])
def test_addresses_are_exchanged(node: Node, others: bool) -> None:
    """Only "good" pods may talk to the aim; the bad one has now this address and now that."""
    one, two, aim = (node.pods[name] for name in ("one", "two", "aim"))
    ways_in, ways_out = ([{f"{way}Endpoints": [{"matchLabels": {"r": "good"}}]}] for way in ("from", "to"))
    with Mesh(node, [policy("good", "aim", ingress=ways_in, egress=ways_out)]) as mesh:

        def exchange(number: int) -> None:
            documents = [pod.workload_yaml() for pod in (one, two)]
            if number % 2 == 0:
                for document, pod in zip(documents, (two, one), strict=True):
                    document["spec"]["ips"] = [pod.ip, pod.ip6]
                    if others:
                        document["metadata"]["labels"]["v"] = "2"
            mesh.apply("both", *documents)

        for name in ("one", "two"):
            mesh.delete(f"workload-{name}")
        exchange(1)
        ways = [(one, one.ip, aim), (one, two.ip, aim), (aim, aim.ip, one)]
        assert not under_edits(node, mesh, ways, exchange)


def test_an_address_that_a_range_allows_is_nobodys_on_its_way(node: Node) -> None:
    """The aim hears one address of no pod; the pod that has it in between is refused as what it is."""
    one, aim = node.pods["one"], node.pods["aim"]
    ranges = policy("range", "aim", ingress=[{"fromCIDR": [f"{one.ip}/32"]}])
    with Mesh(node, [ranges]) as mesh:

        def take(number: int) -> None:
            document = one.workload_yaml()
            if number % 2 == 0:
                document["spec"]["ips"] = [one.ip6]
            mesh.apply("workload-one", document)

        assert not under_edits(node, mesh, [(one, one.ip, aim)], take)


def test_a_packet_waits_on_its_way_while_a_deny_moves(node: Node) -> None:
    """For the receiver's hardware address, between the sender's hook and the receiver's."""
    one, aim = node.pods["one"], node.pods["aim"]

    def ip(netns: str, *words: str) -> None:
        node.run(["nsenter", f"--net={netns}", "ip", *words])

    ip(node.netns, "link", "set", aim.interface, "nomaster")  # each pod's address is routed, as many networks do
    ip(node.netns, "route", "add", f"{aim.ip}/32", "dev", aim.interface)
    ip(one.netns, "route", "add", f"{aim.ip}/32", "via", node.gateway)
    denies = {name: policy("deny", name, egress=[{}], ingress=[{}]) for name in ("one", "aim")}
    with Mesh(node, [denies["aim"]]) as mesh:
        sender, hearer = Puppet(one), Puppet(aim, ears=True)

        def send(port: int, word: str) -> None:
            packet = "send_packet(udp_packet(mine, ip, 4712, port, word), ip)"
            sender.do(packet, mine=one.ip, ip=aim.ip, port=port, word=word)

        def dropped(port: int) -> Any:
            return mesh.wait_flow(
                lambda flow: flow["verdict"] == "DROPPED" and flow["l4"].get("UDP", {}).get("destination_port") == port
            )

        ip(aim.netns, "link", "set", "eth0", "arp", "off")
        ip(node.netns, "neigh", "flush", "dev", aim.interface)
        send(4801, "waits")
        mesh.apply("policy-0", denies["one"])
        assert mesh.call("reconcile")["problems"] == []
        ip(aim.netns, "link", "set", "eth0", "arp", "on")
        assert "egress_denied_by" in dropped(4801)
        assert hearer.do("result = heard()") == []


def test_what_changes_over_is_no_denial(node: Node) -> None:
    """An agent dies in the midst of an edit: a new connection goes over TCP, and is counted as what it is."""
    with Mesh(node) as mesh, mesh.open_maps() as maps:
        mesh.kill()
        try:
            maps.edition.put_at(0, abi.Edition(abi.EditionState.BOTH))
            switching, denied = (maps.counter(m) for m in (abi.Metric.PASS_SWITCHING, abi.Metric.PASS_DENIED))
            pair = connect(Maker(node.pods["one"]), Maker(node.pods["aim"]), maps)
            assert not pair.warm_up()
            pair.a.send(b"word")
            assert receive(pair.b, 4) == b"word"
            assert maps.counter(abi.Metric.PASS_SWITCHING) > switching
            assert maps.counter(abi.Metric.PASS_DENIED) == denied
        finally:
            mesh.start()
        assert pair.warm_up()
        pair.close()
