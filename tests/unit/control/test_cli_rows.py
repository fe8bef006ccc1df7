"""Rows of `sockmesh bpf`: whole values from records and names."""

import contextlib
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click import testing

from control.cli.bpf import ct as ct_command
from control.cli.bpf import endpoint as endpoint_command
from control.cli.bpf import metrics as metrics_command
from control.cli.bpf import policy as policy_command
from control.cli.bpf import sock as sock_command
from control.cli.place import Place
from control.inspect import (
    addresses,
    counters,
    endpoints,
    inforce,
    pins,
    policies,
    services,
    settings,
    socks,
    tcp,
    tracking,
    words,
)
from control.names import EndpointName, Names, RuleName, ServiceName
from loader import abi, numbers
from loader.record import pack_addr
from tests.unit.conns import conn

WEB, DB = pack_addr("10.0.0.1"), pack_addr("10.0.0.2")
NAMES = Names(
    node="n1",
    endpoints={
        1: EndpointName(1, "shop", "web", 256, ("k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop"), ("10.0.0.1",)),
        2: EndpointName(2, "shop", "db", 257, ("k8s:app=db",), ("10.0.0.2",)),
    },
    remote={"10.0.9.9": EndpointName(0, "far", "away", 300)},
    identities={1: ("reserved:host",), 256: ("k8s:app=web", "k8s:io.kubernetes.pod.namespace=shop")},
    rules={7: RuleName("NetworkPolicy", "shop", "db", "spec.ingress[0]", "db.yaml:4")},
    services={3: ServiceName(3, "shop", "db")},
)


def open_conn(**given: Any) -> abi.Conn:
    """Return a connection of web and db."""
    return conn(**({"cookie": (11, 12), "endpoint": (1, 2), "identity": (256, 257), "opened": 1_000} | given))


def sock(record: abi.Conn, counts: tcp.Counts | None = None) -> socks.SockRow:
    key = abi.ConnKey(WEB, DB, 40000, 6379)
    return socks.row(key, record, NAMES, counts or {}, 6_000)


ACTIVE, BLOCKING, SPLICE = abi.AccelReason.ACTIVE, abi.AccelReason.BLOCKING, abi.AccelReason.SPLICE


def test_an_accelerated_connection_is_shown_from_the_end_that_connected() -> None:
    row = sock(
        open_conn(
            enrolled=(1, 1), reason=(ACTIVE, ACTIVE), redirect_bytes=(100, 900), redirect_msgs=(1, 9), rule=(0, 7)
        )
    )
    way = socks.Way(True, "active", socks.EXPLAIN[ACTIVE], 100, 1, 0, None, True)
    assert row == socks.SockRow(
        source=words.End("10.0.0.1", 40000, "shop/web", 256, 1),
        destination=words.End("10.0.0.2", 6379, "shop/db", 257, 2),
        state="open",
        there=way,
        back=dataclasses.replace(way, redirected_bytes=900, redirected_messages=9),
        age_ns=5_000,
        cookies=(11, 12),
        egress_rule="",
        ingress_rule="NetworkPolicy shop/db spec.ingress[0]",
        egress_source="",
        ingress_source="db.yaml:4",
    )
    assert sock_command._facts(row)["ingress rule"] == "NetworkPolicy shop/db spec.ingress[0] (db.yaml:4)"


def test_the_initiator_may_be_either_side_of_the_key() -> None:
    row = sock(open_conn(flags=abi.ConnFlag.INITIATOR_1, redirect_bytes=(100, 900)))
    assert (str(row.source), str(row.destination)) == ("shop/db:6379", "shop/web:40000")
    assert (row.there.redirected_bytes, row.back.redirected_bytes, row.cookies) == (900, 100, (12, 11))


def test_messages_are_counted_from_the_enrolment_on_and_not_told_of_before() -> None:
    facts = sock_command._facts(sock(open_conn(tcp_msgs=(3, 0), enrolled=(0, 0))))
    assert (facts["-> TCP"], facts["<- TCP"]) == ("unknown, 3 messages since it was enrolled", "unknown")
    assert (
        sock_command._facts(sock(open_conn(enrolled=(1, 1))))["<- TCP"] == "unknown, 0 messages since it was enrolled"
    )


def test_an_end_that_has_no_connection_is_told_from_one_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    here = endpoints.rows(inforce.Endpoints({2: endpoint()}), endpoints.set_facts(SET.items()), NAMES, {})
    monkeypatch.setattr(Place, "names", lambda _: NAMES)
    monkeypatch.setattr(sock_command, "_rows", lambda _: ())
    monkeypatch.setattr(endpoint_command, "rows", lambda _: here)

    def said(wanted: str) -> str:
        return str(testing.CliRunner().invoke(sock_command.sock, ["get", wanted]).exception)

    for wanted in (
        "db",
        "shop/db:6379",
        "db:1",
        "away",
        "far/away:1",
        "80",
        "9.9.9.9",
        "9.9.9.9:1",
        "fd00::9",
        "[fd00::9]:1",
    ):
        assert said(wanted) == f"no open TCP connection has {wanted} at either end (`sockmesh bpf sock list`)"
    for wanted in ("nosuch", "nosuch:80", "far/db", "shop/nosuch:x"):
        assert said(wanted).startswith(f"no endpoint {wanted.removesuffix(':80')} on this node; ")
    assert said("dbb:6379") == "no endpoint dbb on this node; did you mean shop/db (2)?"


def test_each_direction_is_explained_by_its_receiver() -> None:
    row = sock(open_conn(reason=(BLOCKING, ACTIVE)))
    assert (row.there.reason, row.back.reason) == ("probation", "blocking")
    assert not row.there.short_cut and not row.back.short_cut


def test_a_mark_outlives_the_reason_beside_it() -> None:
    row = sock(open_conn(enrolled=(1, 1), reason=(ACTIVE, ACTIVE), marked=(0, SPLICE)))
    assert (row.there.short_cut, row.there.reason, row.back.short_cut) == (False, "splice", True)


@pytest.mark.parametrize(
    ("given", "state"),
    [
        ({}, "open"),
        ({"closed": (1, 0)}, "closing"),
        ({"denied": 1, "enrolled": (1, 1), "reason": (ACTIVE, ACTIVE)}, "denied"),
        ({"stuck": (0, 1)}, "stuck"),
    ],
)
def test_states(given: dict[str, Any], state: str) -> None:
    row = sock(open_conn(**given))
    assert row.state == state
    assert not row.there.short_cut


OF_WEB, OF_DB = (WEB, 40000, DB, 6379, 0), (DB, 6379, WEB, 40000, 0)  # the names of the sockets of sock()'s ends


@pytest.mark.parametrize(
    ("given", "counts", "there", "back"),
    [
        ({}, {OF_WEB: (70, 20), OF_DB: (30, 60)}, 60, 20),  # what arrived, not what was sent
        ({"flags": abi.ConnFlag.INITIATOR_1}, {OF_WEB: (70, 20), OF_DB: (30, 60)}, 20, 60),
        ({}, {OF_DB: (30, 60)}, 60, None),
        ({"tcp_received": (1, 2), "tcp_sent": (3, 4)}, {}, None, None),  # the record has nothing of open sockets
        ({"tcp_received": (5, 0), "closed": (1, 0)}, {OF_DB: (5, 9)}, 9, 5),
        ({"cookie": (11, 0)}, {OF_WEB: (70, 20)}, 70, 20),  # the other end is not of this node
        ({"cookie": (0, 12)}, {OF_DB: (30, 60)}, 60, 30),
        ({"cookie": (0, 12)}, {}, None, None),
        ({"cookie": (0, 12), "closed": (0, 1), "tcp_received": (0, 8), "tcp_sent": (0, 7)}, {}, 8, 7),
    ],
)  # fmt: skip
def test_bytes_over_tcp_are_the_kernels_or_unknown(
    given: dict[str, Any], counts: tcp.Counts, there: int | None, back: int | None
) -> None:
    row = sock(open_conn(**given), counts)
    assert (row.there.tcp_bytes, row.back.tcp_bytes) == (there, back)


def test_each_pod_with_an_open_end_is_looked_into_once() -> None:
    key = abi.ConnKey(WEB, DB, 40000, 6379)
    endpoints = {id: dataclasses.replace(name, netns=f"ns{id}") for id, name in NAMES.endpoints.items()}
    names = dataclasses.replace(NAMES, endpoints=endpoints)
    assert tcp.namespaces([(key, open_conn()), (key, open_conn())], names) == ("ns1", "ns2")
    assert tcp.namespaces([(key, open_conn(closed=(1, 0)))], names) == ("ns2",)
    assert tcp.namespaces([(key, open_conn(endpoint=(0, 9)))], names) == ()
    assert tcp.look([(key, open_conn())], names) == {}  # no such namespaces


@pytest.mark.parametrize(("count", "text"), [(None, "unknown"), (0, "0 B"), (1234, "1.2 kB")])
def test_the_columns_say_when_bytes_over_tcp_are_unknown(count: int | None, text: str) -> None:
    row = sock(open_conn(), {} if count is None else {OF_WEB: (0, count), OF_DB: (0, count)})
    shown = [column.cell(row) for column in sock_command.COLUMNS if column.heading in ("TCP ->", "<-")]
    assert shown == ["0 B", text, text]  # the first "<-" is of redirected bytes


def test_connections_are_found_by_name_address_and_port_of_either_end() -> None:
    rows = (sock(open_conn()),)
    for text in ("10.0.0.2:6379", "10.0.0.2", "40000", "shop/db:6379", "db", "shop/web", "web:40000"):
        assert socks.matching(rows, text) == rows, text
    for text in ("10.0.0.2:40000", "80", "shop/db:40000", "other/db", "d", "10.0.0.20"):
        assert socks.matching(rows, text) == (), text


def test_connections_without_a_rule_say_why_in_the_words_of_bpf_policy() -> None:
    def told(**given: Any) -> tuple[str, str]:
        facts = sock_command._facts(sock(open_conn(**given)))
        return facts["egress rule"], facts["ingress rule"]

    assert told(rule=(0, 7)) == (policies.OPEN, "NetworkPolicy shop/db spec.ingress[0] (db.yaml:4)")
    assert policies.OPEN in [row.rule for row in policies.rows(SET.items(), NAMES, {})]
    assert told(endpoint=(1, 1)) == ("not asked: both ends are in one pod",) * 2
    key = abi.ConnKey(WEB, pack_addr("9.9.9.9"), 40000, 53)
    facts = sock_command._facts(socks.row(key, open_conn(endpoint=(1, 0)), NAMES, {}, 6_000))
    assert facts["ingress rule"] == "not asked: 9.9.9.9 is no endpoint of this node"


def test_every_reason_is_explained() -> None:
    assert set(socks.EXPLAIN) == set(abi.AccelReason)
    assert socks.explain(250) == ""


def test_what_waits_for_the_other_end_says_so_as_the_page_does() -> None:
    row = sock(open_conn(enrolled=(0, 0), reason=(abi.AccelReason.PROBATION, BLOCKING)))
    by_reason = {way.reason: way.explanation for way in (row.there, row.back)}
    assert by_reason["probation"].endswith("or the other end does not qualify (see its own reason)")
    page = (Path(__file__).parents[3] / "docs" / "reference.md").read_text()
    assert f"| `probation` | {by_reason['probation']} |" in page


def test_a_mark_is_counted_in_the_words_of_the_page_for_it_takes_no_socket_off() -> None:
    zeros = [[0] for _ in abi.Metric]
    (row,) = (row for row in counters.counters(zeros) if row.name == "marked_readers")
    assert row.explanation == "Sockets marked because of how their program uses them"
    page = (Path(__file__).parents[3] / "docs" / "reference.md").read_text()
    assert row.explanation.lower() in page


def entry(verdict: int, rank: int, rule: int = 0, **given: int) -> abi.PolicyValue:
    return abi.PolicyValue.blank(verdict=verdict, rank=rank, rule_id=rule, **({"present": 1} | given))


ALLOW, DENY = abi.Verdict.ALLOW, abi.Verdict.DENY
SET = {
    abi.PolicyKey(5, 0, 0, 0, 0, 0): entry(DENY, abi.Rank.DEFAULT, 7),
    abi.PolicyKey(5, 256, 8000, abi.Proto.TCP, 0, 10): entry(ALLOW, abi.Rank.ALLOW, 7),
    abi.PolicyKey(5, 999, 0, 0, 0, 0): entry(DENY, abi.Rank.DENY, 8),
    abi.PolicyKey(5, 0, 0, 0, 1, 0): entry(ALLOW, abi.Rank.DEFAULT),
}


def test_policy_entries_in_the_order_in_which_they_decide() -> None:
    rows = policies.rows(SET.items(), NAMES, {5: ("shop/db",)})
    assert [(r.direction, r.verdict, r.peer_word, r.proto, r.ports, r.rule, r.source) for r in rows] == [
        ("ingress", "deny", "999", "any", "any", "rule 8", ""),
        ("ingress", "allow", "shop app=web", "TCP", "8000-8063", "NetworkPolicy shop/db spec.ingress[0]", "db.yaml:4"),
        ("ingress", "deny", "any", "any", "any",
         "default: NetworkPolicy shop/db spec.ingress[0] selects the endpoint", "db.yaml:4"),
        ("egress", "allow", "any", "any", "any", "default: no policy selects the endpoint", ""),
    ]  # fmt: skip
    assert {r.endpoints for r in rows} == {("shop/db",)}
    assert rows[1].port_prefix == "8000/10"


def test_the_pieces_of_a_range_of_ports_are_one_line_for_people() -> None:
    rule, other = entry(ALLOW, abi.Rank.ALLOW, 7), entry(ALLOW, abi.Rank.ALLOW, 8)
    pieces = [(8000, 10), (8064, 11), (8096, 14), (8100, 16)]  # 8000-8100
    held = [(abi.PolicyKey(5, 256, port, 6, 0, plen), rule) for port, plen in reversed(pieces)]
    held += [(abi.PolicyKey(5, 256, port, 6, 0, 16), rule) for port in (80, 8102)]
    held += [(abi.PolicyKey(5, 256, 8101, 6, 0, 16), other), (abi.PolicyKey(5, 256, 8101, 17, 0, 16), rule)]
    held += [(abi.PolicyKey(5, 256, 0, 1, 0, 0), rule), *((key, value) for key, value in SET.items() if not key.port)]
    rows = policies.rows(held, NAMES, {})
    assert [row.port_prefix for row in rows if row.peer == 256 and row.proto == "TCP"] == [
        "80/16", "8000/10", "8064/11", "8096/14", "8100/16", "8101/16", "8102/16",
    ]  # fmt: skip
    shown = policies.ranges(rows)
    assert [(r.verdict, r.peer, r.proto, r.ports, r.rule[:6]) for r in shown if r.direction == "ingress"] == [
        ("deny", 999, "any", "any", "rule 8"),
        ("allow", 256, "ICMP", "any", "Networ"),
        ("allow", 256, "TCP", "80", "Networ"),
        ("allow", 256, "TCP", "8000-8100", "Networ"),
        ("allow", 256, "TCP", "8101", "rule 8"),
        ("allow", 256, "TCP", "8102", "Networ"),
        ("allow", 256, "UDP", "8101", "Networ"),
        ("deny", 0, "any", "any", "defaul"),
    ]


def test_an_allow_before_every_deny_is_told_from_one_behind_them() -> None:
    held = {abi.PolicyKey(5, peer, 0, 0, 0, 0): entry(ALLOW, rank, 7) for peer, rank in ((1, 254), (2, 1))}
    rank = next(column for column in policy_command.COLUMNS if column.heading == "RANK")
    assert [rank.cell(row) for row in policies.rows(held.items(), NAMES, {})] == ["254", "1"]


def test_policies_are_listed_by_the_names_of_their_endpoints() -> None:
    users = {5: ("shop/web",), 6: ("shop/api", "shop/db"), 8: ("shop/cart",)}
    sets = {abi.PolicyKey(n, peer, 0, 0, 0, 0): entry(ALLOW, 1, 7) for n in (5, 6, 7, 8) for peer in (256, 1)}
    listed = policy_command._by_owner(policies.rows(sets.items(), NAMES, users))
    assert [(r.set_id, r.peer) for r in listed] == [(n, peer) for n in (6, 8, 5, 7) for peer in (1, 256)]


def test_what_only_an_audited_policy_says_is_told_apart() -> None:
    only = entry(0, 0, present=0, audit_present=1, audit_verdict=DENY, audit_rank=abi.Rank.DENY, audit_rule_id=7)
    both = entry(ALLOW, abi.Rank.ALLOW, 7, audit_present=1, audit_verdict=ALLOW, audit_rank=1, audit_rule_id=7)
    rows = policies.rows([(abi.PolicyKey(5, 1, 0, 0, 0, 0), only), (abi.PolicyKey(5, 2, 0, 0, 0, 0), both)], NAMES, {})
    told = {r.peer_word: (r.verdict, r.audit_verdict, r.audit_rule) for r in rows}
    assert told == {"host": ("", "deny", "NetworkPolicy shop/db spec.ingress[0]"), "world": ("allow", "", "")}


def test_audit_mode_is_put_in_words_that_contradict_nothing() -> None:
    """In the columns of `bpf policy` and `bpf endpoint`: what is enforced, and what would be."""
    audit = {"audit_present": 1, "audit_rule_id": 7}
    held = {
        abi.PolicyKey(5, 0, 0, 0, 0, 0): entry(ALLOW, 0, **audit, audit_verdict=DENY),
        abi.PolicyKey(5, 256, 0, 0, 0, 0): entry(0, 0, present=0, **audit, audit_verdict=ALLOW, audit_rank=1),
    }
    rule = next(column for column in policy_command.COLUMNS if column.heading == "RULE")
    known = "NetworkPolicy shop/db spec.ingress[0]"
    assert [rule.cell(row) for row in policies.rows(held.items(), NAMES, {})] == [
        f"default: no enforced policy selects the endpoint; if audits were enforced: deny, default: {known} selects "
        "the endpoint (db.yaml:4)",
        f"if audits were enforced: allow, {known} (db.yaml:4)",
    ]
    flags = int(abi.EndpointFlag.ENROLLED | abi.EndpointFlag.HAS_AUDIT)
    (row,) = endpoints.rows(
        inforce.Endpoints({2: endpoint(flags=flags)}), endpoints.set_facts(held.items()), Names(), {}
    )
    shown = {column.heading: column.cell(row) for column in endpoint_command.COLUMNS}
    assert (row.in_force, shown["POLICY"], shown["INGRESS"]) == (True, "enforced + audit", "open, audit: default deny")
    assert row.policy_word == "enforced + audit"


class Held(contextlib.AbstractContextManager["Held"]):
    """Maps that hold two endpoints, of which the second is the self-test's, with a connection and entries each."""

    def __init__(self) -> None:
        first = numbers.FIRST_ENDPOINT
        self.endpoints = {abi.EndpointKey(2): endpoint(), abi.EndpointKey(first): endpoint(set_id=first)}
        self.policy = {abi.PolicyKey(n, 0, 0, 0, 0, 0): entry(ALLOW, 0) for n in (5, first)}
        self.conns = {abi.ConnKey(WEB, DB, n, 1): open_conn(endpoint=(n, n + 1)) for n in (1, first)}
        self.ct = {abi.CtKey(WEB, DB, n, 1, 0, 6, 0): abi.CtEntry.blank() for n in (2, first)}
        self.caught: dict[abi.EndpointKey, abi.Caught] = {}
        self.config = SimpleNamespace(get_at=lambda _: abi.Config.blank())
        self.edition = SimpleNamespace(get_at=lambda _: abi.Edition(abi.EditionState.NOW))

    def __exit__(self, *_: object) -> None:
        pass


def test_the_self_tests_own_pods_are_in_no_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Place, "names", lambda _: NAMES)
    monkeypatch.setattr(Place, "maps", lambda _: Held())

    def listed(command: click.Command) -> list[Any]:
        answer = testing.CliRunner().invoke(command, ["list", "-o", "json", "--pin-dir", "/nonexistent"])
        assert answer.exit_code == 0, answer
        found: list[Any] = json.loads(answer.stdout)
        return found

    assert [(r["id"], r["policy"]) for r in listed(endpoint_command.endpoint)] == [
        (1, endpoints.NOT_IN_FORCE), (2, "enforced"),
    ]  # fmt: skip
    assert [r["source"]["endpoint"] for r in listed(sock_command.sock)] == [1]
    assert [(r["set_id"], r["endpoints"]) for r in listed(policy_command.policy)] == [(5, ["shop/db"])]
    assert [r["endpoint"] for r in listed(ct_command.ct)] == [2]


def test_a_pod_on_which_no_policy_is_enforced_is_not_called_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One with a name that the kernel does not know: no hook judges its packets."""
    monkeypatch.setattr(Place, "names", lambda _: NAMES)
    monkeypatch.setattr(Place, "maps", lambda _: Held())

    def said(command: click.Command, *words: str) -> str:
        answer = testing.CliRunner().invoke(command, ["get", "web", *words, "--pin-dir", "/nonexistent"])
        assert answer.exit_code == 0, answer
        return answer.stdout

    heading, _, *lines = said(policy_command.policy).splitlines()
    assert heading == f"shop/web (endpoint 1, identity 256): {endpoints.NOT_IN_FORCE}"
    assert [line.split()[:3] for line in lines] == [["ingress", "not", "enforced"], ["egress", "not", "enforced"]]
    assert all(line.endswith(endpoints.PASSES) for line in lines)
    found = json.loads(said(policy_command.policy, "-o", "json"))
    assert [(r["direction"], r["verdict"], r["rule"]) for r in found] == [
        (direction, "not enforced", endpoints.PASSES) for direction in ("ingress", "egress")
    ]
    facts = dict(line.partition("  ")[::2] for line in said(endpoint_command.endpoint).splitlines())
    assert facts["policy"].strip() == endpoints.NOT_IN_FORCE and facts["entries"].strip() == "none"
    assert "its traffic passes" in endpoints.NOT_IN_FORCE


@pytest.mark.parametrize("form", ["table", "json"])
@pytest.mark.parametrize(
    ("command", "words", "told"),
    [
        (ct_command.ct, ["get", "shop/web"], "nothing is tracked for shop/web"),
        (
            ct_command.ct,
            ["get", "shop/web", "shop/db", "shop/web:80"],
            "shop/web tracks nothing from shop/db to shop/web:80",
        ),
        (sock_command.sock, ["get", "db:2"], "no open TCP connection has db:2 at either end"),
    ],
)
def test_a_get_that_finds_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, command: click.Command, words: list[str], told: str, form: str
) -> None:
    monkeypatch.setattr(Place, "names", lambda _: NAMES)
    monkeypatch.setattr(Place, "maps", lambda _: Held())
    answer = testing.CliRunner().invoke(command, [*words, "-o", form, "--pin-dir", "/nonexistent"])
    assert (answer.exit_code, answer.stdout) == (1, "") and str(answer.exception).startswith(f"{told} (`sockmesh bpf ")


def endpoint(**given: Any) -> abi.Endpoint:
    flags = (
        abi.EndpointFlag.ENROLLED
        | abi.EndpointFlag.ACCELERATE
        | abi.EndpointFlag.HAS_CGROUP
        | abi.EndpointFlag.UNSHAPED
    )
    return abi.Endpoint.blank(**({"identity": 257, "set_id": 5, "flags": int(flags), "ifindex": 4} | given))


def endpoint_row(held: abi.Endpoint) -> endpoints.EndpointRow:
    found = endpoints.rows(
        inforce.Endpoints({2: held}), endpoints.set_facts(SET.items()), NAMES, {"endpoint-2": ["sockops"]}
    )
    return endpoints.pick(found, "2")


def test_an_endpoint_in_force() -> None:
    row = endpoint_row(endpoint())
    assert (row.name, row.policy, row.ingress, row.egress, row.entries, row.acceleration, row.hooks) == (
        "shop/db", "enforced", "default deny", "open", 4, "on", ("sockops",),
    )  # fmt: skip
    assert row.flags == ("enrolled", "accelerate", "has-cgroup", "unshaped")


@pytest.mark.parametrize(
    ("given", "policy", "acceleration"),
    [
        ({"flags": 518}, "everything is refused: not enrolled yet", "on"),
        ({"set_id": 0}, "everything is refused: no policy is loaded for it", "on"),
        ({"set_id": 77}, "everything is refused: no policy is loaded for it", "on"),
        ({"flags": 5}, "enforced", "opted out"),
        ({"flags": 3}, "enforced", "no cgroup: none was given or found, so its sockets cannot be seen"),
        ({"flags": 7}, "enforced", "queue: its host-side interface has one that shapes what passes"),
        ({"nsid": 0xFFFFFFFF}, "enforced", "no namespace id: its network namespace has no id here"),
    ],
)
def test_endpoints_that_are_not_in_full_force(given: dict[str, Any], policy: str, acceleration: str) -> None:
    row = endpoint_row(endpoint(**given))
    assert (row.policy, row.acceleration) == (policy, acceleration)


def test_a_workload_with_a_name_but_no_record_is_shown_as_not_in_force() -> None:
    row = endpoints.pick(endpoints.rows(inforce.Endpoints({2: endpoint()}), {}, NAMES, {}), "shop/web")
    assert not row.in_force
    assert (row.id, row.ingress, row.egress) == (1, "", "")


def test_endpoints_are_picked_by_id_name_or_address_and_never_by_guess() -> None:
    found = endpoints.rows(inforce.Endpoints({}), {}, NAMES, {})
    for wanted in ("2", "shop/db", "db", "10.0.0.2"):
        assert endpoints.pick(found, wanted).id == 2
    with pytest.raises(endpoints.NoSuchEndpoint, match=r"no endpoint x on this node; here are shop/web \(1\)"):
        endpoints.pick(found, "x")
    twice = Names(endpoints={1: EndpointName(1, "a", "db", 0), 2: EndpointName(2, "b", "db", 0)})
    for wanted, near in (("wbe", r"shop/web \(1\)\?"), ("dbb", r"shop/db \(2\)\?")):
        with pytest.raises(endpoints.NoSuchEndpoint, match=f"no endpoint {wanted} on this node; did you mean {near}"):
            endpoints.pick(found, wanted)
    with pytest.raises(endpoints.NoSuchEndpoint, match="db is more than one endpoint: a/db, b/db"):
        endpoints.pick(endpoints.rows(inforce.Endpoints({}), {}, twice, {}), "db")


def test_the_longest_prefix_decides_for_an_address() -> None:
    rows = addresses.rows(
        [
            (abi.IpcacheKey(96, pack_addr("0.0.0.0")), abi.IpcacheValue(9)),
            (abi.IpcacheKey(120, pack_addr("10.0.0.0")), abi.IpcacheValue(1 << 24)),
            (abi.IpcacheKey(128, WEB), abi.IpcacheValue(256, flags=1)),
            (abi.IpcacheKey(64, pack_addr("fd00::")), abi.IpcacheValue(1)),
            (abi.IpcacheKey(0, pack_addr("::")), abi.IpcacheValue(10)),
        ],
        NAMES,
    )
    assert [r.prefix for r in rows] == ["0.0.0.0/0", "10.0.0.0/24", "10.0.0.1/32", "::/0", "fd00::/64"]
    for ip, prefix in (("10.0.0.1", "10.0.0.1/32"), ("10.0.0.9", "10.0.0.0/24"), ("9.9.9.9", "0.0.0.0/0"),
                       ("fd00::5", "fd00::/64"), ("fe80::1", "::/0")):  # fmt: skip
        found = addresses.lookup(rows, ip)
        assert found is not None and found.prefix == prefix
    assert addresses.lookup(rows, "10.0.0.1") == addresses.AddressRow(
        "10.0.0.1/32", 256, "shop app=web", NAMES.identities[256], "shop/web", ("mesh",)
    )
    assert addresses.lookup([], "10.0.0.1") is None
    with pytest.raises(ValueError):
        addresses.lookup(rows, "web")


def test_tracking_names_both_ends_and_says_what_is_asked_again() -> None:
    value = abi.CtEntry.blank(created=1, last_seen=5, generation=3, rule_id=7, flags=3, tx_packets=2)
    ping = abi.CtKey(WEB, DB, 2, 77, 0x0800, abi.Proto.ICMP, abi.Direction.INGRESS)
    (row,) = tracking.rows([(ping, value)], NAMES, generation=4, now=9)
    assert (row.endpoint_name, row.direction, row.proto, row.flags) == (
        "shop/db", "ingress", "ICMP", ("seen-reply", "closing"),
    )  # fmt: skip
    assert (str(row.source), row.destination.port, row.idle_ns, row.current) == ("shop/web:0", 0, 4, False)
    rule = next(column for column in ct_command._COLUMNS if column.heading == "RULE")
    assert rule.cell(row) == "NetworkPolicy shop/db spec.ingress[0] (db.yaml:4)"
    assert tracking.of([row], 2) == (row,) and tracking.of([row], 1) == ()
    assert tracking.between([row], "web", "shop/db") == (row,) and tracking.between([row], "db", "web") == ()


def test_services_list_the_backends_they_count() -> None:
    service = abi.Service(3, 2, 0)
    backends = [
        (abi.BackendKey(3, 0), abi.Backend(DB, 6379)),
        (abi.BackendKey(3, 2), abi.Backend(WEB, 1)),  # left over: beyond what the service counts
    ]
    key = abi.ServiceKey(pack_addr("10.96.0.1"), 80, abi.Proto.TCP)
    (row,) = services.rows([(key, service)], backends, NAMES)
    assert (row.name, row.address, row.proto, [str(b) for b in row.backends], row.missing) == (
        "shop/db", "10.96.0.1:80", "TCP", ["shop/db:6379"], 1,
    )  # fmt: skip
    for wanted in ("shop/db", "db", "10.96.0.1", "10.96.0.1:80"):
        assert services.matching([row], wanted) == (row,)
    assert services.matching([row], "10.96.0.2") == ()


def test_every_field_of_the_config_record_is_explained() -> None:
    record = abi.Config.blank(acceleration=1)
    rows = settings.rows(record)
    assert [r.name for r in rows] == [n for n, _, _ in abi.Config.FIELDS if not n.startswith("pad")]
    assert [r.name for r in rows if not r.explanation] == []
    assert settings.pick(rows, "acceleration") == settings.SettingRow(
        "acceleration", 1, "on", "on, off", "new connections may take the short cut"
    )
    assert settings.pick(rows, "udp-timeout-s") is not None
    assert settings.pick(rows, "nothing") is None
    for mode, word in ((0, "off"), (1, "permissive"), (2, "strict"), (9, "9")):
        (row,) = (r for r in settings.rows(abi.Config.blank(mtls=mode)) if r.name == "mtls")
        assert (row.word, row.allowed) == (word, "")


def test_counters_are_summed_and_rated() -> None:
    first = [[10, 20] for _ in abi.Metric]
    then = [[14, 26] for _ in abi.Metric]
    (row, *rest) = counters.counters(first, then, 2.0)
    assert (row.name, row.total, row.per_cpu, row.rate) == ("events_lost", 40, (14, 26), 5.0)
    assert len(rest) == len(abi.Metric) - 1
    assert counters.counters(first)[0].rate is None


def test_a_counter_is_told_by_its_own_name_however_the_numbers_are_ordered() -> None:
    readings = [[int(metric)] for metric in abi.Metric]
    assert {r.name: r.total for r in counters.counters(readings)} == {m.name.lower(): int(m) for m in abi.Metric}


def test_traffic_rows_name_reasons_and_put_drops_last() -> None:
    rows = counters.traffic(
        [
            (abi.TrafficKey(133, 0), abi.TrafficValue(5, 50)),
            (abi.TrafficKey(60000, 0), abi.TrafficValue(9, 1)),
        ],
        lambda metric: 3 if metric is abi.Metric.REFUSED_CALLS else int("EGRESS" in metric.name),
    )
    assert [(r.outcome, r.dropped, r.direction, r.packets) for r in rows] == [
        ("forwarded", False, "egress", 1),
        ("refused", True, "", 0),
        ("60000", True, "ingress", 9),
        ("POLICY_DENIED", True, "ingress", 5),
    ]
    assert [row.calls for row in rows] == [0, 3, 0, 0]
    shown = [[column.cell(row) for column in metrics_command._COLUMNS] for row in rows[:2]]
    assert shown == [["forwarded", "egress", "1", "1 B"], ["refused", "-", "3 calls", "-"]]


def test_an_outcome_that_never_was_is_zero_and_one_that_cannot_be_is_nothing() -> None:
    drops = [(abi.TrafficKey(133, 0), abi.TrafficValue(5, 50)), (abi.TrafficKey(60000, 0), abi.TrafficValue(9, 1))]
    rows = counters.traffic(drops, lambda _: 0)

    def told(wanted: str) -> list[tuple[str, bool, str, int]]:
        return [(r.outcome, r.dropped, r.direction, r.packets) for r in counters.of(rows, wanted)]

    assert told("policy-denied") == [("POLICY_DENIED", True, "ingress", 5)]
    assert told("60000") == [("60000", True, "ingress", 9)]
    assert told("Forwarded") == [("forwarded", False, "ingress", 0), ("forwarded", False, "egress", 0)]
    assert told("POLICY_DENY") == [("POLICY_DENY", True, "ingress", 0), ("POLICY_DENY", True, "egress", 0)]
    assert told("refused") == [("refused", True, "", 0)]
    assert told("none") == told("nothing") == told("60001") == []


def test_pins_say_what_a_link_hangs_on() -> None:
    info = pins.parse_fdinfo("pos:\t0\nlink_type:\tcgroup\nlink_id:\t4\nprog_tag:\tab12\nprog_id:\t9\n")
    row = pins.row("links", Path("/p/links/endpoint-2-sockops"), info, None, NAMES)
    assert row == pins.PinRow(
        "link", "endpoint-2-sockops", "/p/links/endpoint-2-sockops", 4, "cgroup", "ab12", program_id=9,
        target="cgroup of shop/db",
    )  # fmt: skip
    info = pins.parse_fdinfo("map_type:\t1\nmax_entries:\t5\nmemlock:\t4096\nmap_id:\t8\n")
    assert pins.row("maps", Path("/p/maps/policy"), info, 3, NAMES) == pins.PinRow(
        "map", "policy", "/p/maps/policy", 8, "hash", memory_bytes=4096, entries=3, max_entries=5
    )


@pytest.mark.parametrize(
    ("end", "text"),
    [
        (words.end(NAMES, WEB, 80), "shop/web:80"),
        (words.end(NAMES, pack_addr("10.0.9.9"), 80), "far/away:80"),
        (words.end(NAMES, pack_addr("1.2.3.4"), 80), "1.2.3.4:80"),
        (words.end(NAMES, pack_addr("fd00::1"), 80), "[fd00::1]:80"),
        (words.end(NAMES, pack_addr("1.2.3.4"), 80, endpoint=2), "shop/db:80"),
        (words.end(Names(), WEB, 80, endpoint=2), "10.0.0.1:80"),
    ],
)
def test_ends(end: words.End, text: str) -> None:
    assert str(end) == text


@pytest.mark.parametrize(
    ("text", "is_meant"),
    [
        ("shop/web:80", True), ("web:80", True), ("10.0.0.1:80", True), ("shop/web", True), ("web", True),
        ("10.0.0.1", True), ("web:8", False), ("shop", False), ("80", False), (":80", False), ("", False),
    ],
)  # fmt: skip
def test_an_end_is_meant_by_each_of_its_names(text: str, is_meant: bool) -> None:
    assert words.end(NAMES, WEB, 80).is_called(text) is is_meant


def test_an_end_without_a_name_is_meant_by_its_address() -> None:
    nobody = words.end(NAMES, pack_addr("fd00::1"), 80)
    assert nobody.is_called("[fd00::1]:80") and nobody.is_called("fd00::1") and not nobody.is_called("")


def test_numbers_without_a_name_stay_numbers() -> None:
    nobody = Names()
    assert words.identity_word(nobody, 5000) == "5000"
    assert words.identity_word(nobody, 2) == "world"
    assert words.rule_word(nobody, 9) == "rule 9"
    assert words.endpoint_name(nobody, 4) == "endpoint 4"
    assert words.proto_word(89) == "89"
