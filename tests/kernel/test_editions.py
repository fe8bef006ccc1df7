"""An edit that changes more than one end: at no moment do two ends let through what each of its states refuses."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from loader import abi
from tests.hosts import Mesh, Node, Pod
from tests.hosts.wait import wait_until
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


class Waiting:
    """one and aim, each of whose addresses is routed to its interface, as many networks do, and what they send."""

    def __init__(self, node: Node, mesh: Mesh) -> None:
        self._node, self._mesh = node, mesh
        self.pods = {name: node.pods[name] for name in ("one", "aim")}
        self._puppets = {name: Puppet(pod, ears=True) for name, pod in self.pods.items()}
        for pod, other in itertools.permutations(self.pods.values()):
            self.ip(node.netns, "link", "set", pod.interface, "nomaster")
            self.ip(node.netns, "route", "add", f"{pod.ip}/32", "dev", pod.interface)
            self.ip(pod.netns, "route", "add", f"{other.ip}/32", "via", node.gateway)

    def ip(self, netns: str, *words: str) -> None:
        self._node.run(["nsenter", f"--net={netns}", "ip", *words])

    def refuses(self, name: str, direction: str) -> None:
        """Put a policy in force: what a pod's own refuses, all else is open."""
        self._mesh.apply("policy-0", policy("deny", name, **{direction: [{}]}))
        assert self._mesh.call("reconcile")["problems"] == []

    def send(self, name: str, word: str, port: int) -> None:
        """From one to aim's port, or back."""
        other = next(pod for key, pod in self.pods.items() if key != name)
        sport, dport = (4712, port) if name == "one" else (port, 4712)
        packet = "send_packet(udp_packet(mine, ip, sport, dport, word), ip)"
        self._puppets[name].do(packet, mine=self.pods[name].ip, ip=other.ip, sport=sport, dport=dport, word=word)

    def hears(self, name: str, *words: str) -> None:
        """Wait for the last of these words; in all a pod has heard these. What waited before is heard before."""
        wait_until(lambda: words[-1] in self._puppets[name].do("result = heard()"), f"{words[-1]} arrives")
        assert set(self._puppets[name].do("result = heard()")) == set(words)

    def talk(self, port: int) -> None:
        """Have one ask aim, and aim answer."""
        self.send("one", "question", port)
        self.hears("aim", "question")
        self.send("aim", "answer", port)
        self.hears("one", "answer")

    @contextlib.contextmanager
    def nobody_finds(self, name: str) -> Iterator[None]:
        """What is sent to a pod waits on the host for its hardware address."""
        self.ip(self.pods[name].netns, "link", "set", "eth0", "arp", "off")
        self.ip(self._node.netns, "neigh", "flush", "dev", self.pods[name].interface)
        yield
        self.ip(self.pods[name].netns, "link", "set", "eth0", "arp", "on")

    def arrived(self, name: str, port: int) -> list[str]:
        """Return what a pod has heard when a packet of this port has been dropped on its way to it."""

        def is_it(flow: Json) -> bool:
            ports = flow["l4"].get("UDP", {})
            at = flow["extensions"]["value"]["sockmesh"].get("hook")
            return flow["verdict"] == "DROPPED" and port in ports.values() and at == "tc_to_pod"

        self._mesh.wait_flow(is_it, f"the packet of {port} is dropped where it arrives")
        return list(self._puppets[name].do("result = heard()"))


@pytest.fixture
def waiting(node: Node) -> Iterator[Waiting]:
    node.pod("nobody", labels={"app": "nobody"})
    with Mesh(node, [policy("deny", "nobody", ingress=[{}])]) as mesh:
        yield Waiting(node, mesh)


def test_a_packet_waits_on_its_way_while_a_deny_moves(waiting: Waiting) -> None:
    """For the receiver's hardware address, between the sender's hook and the receiver's."""
    waiting.refuses("aim", "ingress")
    with waiting.nobody_finds("aim"):
        waiting.send("one", "first", 4801)
        waiting.refuses("one", "egress")
    assert waiting.arrived("aim", 4801) == []


def test_a_packet_that_waits_is_not_let_in_because_its_sender_tries_again(waiting: Waiting) -> None:
    """What its own hook refuses then, it forgets."""
    waiting.refuses("aim", "ingress")
    with waiting.nobody_finds("aim"):
        waiting.send("one", "first", 4804)
        waiting.refuses("one", "egress")
        waiting.send("one", "second", 4804)
    assert waiting.arrived("aim", 4804) == []


def test_an_answer_that_the_far_end_is_against_does_not_start(waiting: Waiting) -> None:
    """A deny moves from who asked to who answers: what the one refuses the other's hook refuses, too."""
    waiting.talk(4802)
    waiting.refuses("one", "egress")
    with waiting.nobody_finds("one"):
        waiting.send("aim", "late", 4802)
        waiting.refuses("aim", "ingress")
    waiting.refuses("nobody", "ingress")
    waiting.send("one", "again", 4802)
    waiting.hears("aim", "question", "again")
    waiting.send("aim", "answered", 4802)
    waiting.hears("one", "answer", "answered")  # behind all that waited


def test_what_waits_answers_nothing_that_the_receiver_began_meanwhile(waiting: Waiting) -> None:
    waiting.refuses("aim", "ingress")
    with waiting.nobody_finds("aim"):
        waiting.send("one", "late", 4806)
        waiting.refuses("one", "egress")
        waiting.send("one", "second", 4806)  # refused, and forgotten
        waiting.send("aim", "poke", 4806)
    assert waiting.arrived("aim", 4806) == []


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
