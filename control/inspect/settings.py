"""The config record in words: every switch with its value, and what can be turned."""

import dataclasses
from collections.abc import Iterable

from control.agent import switches
from control.inspect import inforce
from loader import abi

_EXPLAIN = {
    "generation": "raised after each policy change, so that open connections are judged again",
    "acceleration": "new connections may take the short cut",
    "direct_delivery": "packets of new connections may go straight into the other pod's interface",
    "self_test": "the short cut passed its test on this kernel; without that it stays off",
    "probation_packets": "packets an end must have sent before its connection is short-cut",
    "udp_timeout_s": "seconds until an idle UDP flow is forgotten",
    "tcp_timeout_s": "seconds until an idle TCP connection is forgotten",
    "tcp_close_timeout_s": "seconds until a closed TCP connection is forgotten",
    "icmp_timeout_s": "seconds until an idle ICMP exchange is forgotten",
    "mtls": "TLS between enrolled pods of two nodes: off, permissive (plaintext is let in) or strict",
    "proxy_ifindex": "the interface to the node proxy; 0: none, and what needs the proxy is refused",
    "proxy_netns": "the cookie of the node proxy's network namespace",
    "proxy_nsid": "the number of that namespace as the agent's has it",
}
_ON_OFF = ("acceleration", "direct_delivery", "self_test")


@dataclasses.dataclass(frozen=True)
class SettingRow:
    """One field of the record; `allowed` is "" for what the agent sets itself."""

    name: str
    value: int
    word: str
    allowed: str
    explanation: str


def rows(config: abi.Config, edition: abi.EditionState = abi.EditionState.NOW) -> tuple[SettingRow, ...]:
    """Return every field but padding, and which edition counts if it is not the usual one."""
    found = [_row(name, getattr(config, name)) for name, _, _ in config.FIELDS if not name.startswith("pad")]
    if edition in inforce.WORDS:
        found.append(SettingRow("edition", int(edition), edition.name.lower(), "", inforce.WORDS[edition]))
    return tuple(found)


def _row(name: str, value: int) -> SettingRow:
    word = ("on" if value else "off") if name in _ON_OFF else _mode(value) if name == "mtls" else str(value)
    return SettingRow(name, value, word, _allowed(name), _EXPLAIN.get(name, ""))


def _mode(value: int) -> str:
    return abi.Mtls(value).name.lower() if value in list(abi.Mtls) else str(value)


def _allowed(name: str) -> str:
    if name not in switches.SWITCHES:
        return ""
    bounds = switches.SWITCHES[name]
    return "on, off" if bounds is None else f"{bounds[0]} to {bounds[1]}"


def settable(row: SettingRow) -> str:
    """Return in words to what a person may set a field, or where else: "-" for what the agent alone sees to."""
    return row.allowed or (f"by {switches.OPTIONS[row.name]}" if row.name in switches.OPTIONS else "-")


def pick(found: Iterable[SettingRow], name: str) -> SettingRow | None:
    """Return one setting; - and _ are the same."""
    return next((r for r in found if r.name == name.replace("-", "_")), None)
