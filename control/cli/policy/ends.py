"""What the options of `sockmesh policy trace` mean."""

import re
from typing import TYPE_CHECKING

from control.cli.policy import BadInput
from control.policy import dnsnames, ports, request
from control.terminal import printable
from l7proxy.http1 import head
from loader import abi

if TYPE_CHECKING:
    from control.analysis import world

ON_HOST = "it has its node's network: no policy of pods is asked"
_MOST_WORDS = 2000  # characters of a message
_PORT_NAME = re.compile(r"(?=[-0-9]*[a-z])[-a-z0-9]{1,15}")
_TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")  # RFC 9110, 5.6.2
_VISIBLE = re.compile(r"[!-~]+")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")  # no control characters, but tabs
_PATH = re.compile(r"/[!-~]*")
_TRANSPORTS = {proto.name: proto for proto in ports.TRANSPORTS}
_ICMP = {"ICMP": abi.Proto.ICMP, "ICMPV4": abi.Proto.ICMP, "ICMPV6": abi.Proto.ICMPV6}
_PORTLESS = {proto.name: proto for proto in ports.PORTLESS}
_PROTOCOLS = {**_TRANSPORTS, **_ICMP, **_PORTLESS}
_NO_HOST = ":"  # a target of CONNECT that names none
_Fields = tuple[tuple[str, str], ...]
_NUMBERED = {int(proto): proto for proto in _PROTOCOLS.values()}


def wrong(text: str) -> BadInput:
    """Return what is wrong with options, for a terminal: they are text of others where scripts fill them in."""
    half = _MOST_WORDS // 2
    return BadInput(printable(text if len(text) <= _MOST_WORDS else f"{text[:half]}...{text[-half:]}"))


def port(text: str) -> tuple[int, int | str]:
    """Read "80", "80/TCP", "8/ICMP" or "EchoRequest/ICMPv6", a port's name, "GRE" or "0/89"; raises BadInput.

    What has no ports, and no types, has port 0, as the kernel takes it.
    """
    number, slash, protocol = text.partition("/")
    if not slash and number in _PORTLESS:  # names of ports are in lower case
        number, protocol = "0", number
    elif not slash and number.upper() in _PROTOCOLS and not _PORT_NAME.fullmatch(number):
        number, protocol = "", number
    proto = _protocol(text, protocol)
    if proto in _ICMP.values() and not number:
        name = _NUMBERED[proto].name
        raise wrong(f"--port {text}: which type of {name}? (write one: EchoRequest/{name}, or its number)")
    if proto in ports.TRANSPORTS and number in ("", "0"):
        name = _NUMBERED[proto].name
        raise wrong(f"--port {text}: which port of {name}? (write one: 80/{name}, or its name)")
    if proto in _ICMP.values():
        kind = ports.icmp_type(abi.Proto(proto), number)
        if kind is None:
            raise wrong(f"--port {text}: {number} is no ICMP type (a number from 0 to 255, or EchoRequest ...)")
        return proto, kind
    if proto not in ports.TRANSPORTS:
        if number not in ("", "0"):
            raise wrong(f"--port {text}: {shown(proto, 0)} has no ports (0/{protocol})")
        return proto, 0
    if _PORT_NAME.fullmatch(number):
        return proto, number
    if not re.fullmatch(r"[0-9]{1,5}", number) or not 1 <= int(number) <= 65535:
        raise wrong(f"--port {text}: {number or 'nothing'} is no port (a number from 1 to 65535, or a name)")
    return proto, int(number)


def _protocol(text: str, name: str) -> int:
    """Return the number of a protocol, TCP where none is named."""
    known = _PROTOCOLS.get(name.upper() or "TCP")
    if known is not None:
        return known
    if re.fullmatch(r"[0-9]{1,3}", name) and 1 <= int(name) <= 255:
        return _NUMBERED.get(int(name), int(name))
    raise wrong(f"--port {text}: unknown protocol {name} ({', '.join(_PROTOCOLS)}, or a number from 1 to 255)")


def shown(proto: int, port: int) -> str:
    """Return a port as people write it: "80/TCP", "8/ICMP"; what has none is its protocol alone."""
    if proto in ports.TRANSPORTS or proto in _ICMP.values():
        return f"{port}/{_NUMBERED[proto].name}"
    return _NUMBERED[proto].name if proto in _NUMBERED else f"IP protocol {proto}"


def named_port(text: str, proto: int, name: str, end: "world.End") -> tuple[int, int]:
    """Return which port of a pod has a name, of any protocol if text says none; raises BadInput."""
    if end.workload is None:
        raise wrong(f"--port {text}: {end.name} is no pod that could have named ports (give a number)")
    has = [p for p in end.workload.ports if p.name]
    found = {(p.protocol, p.port) for p in has if p.name == name and (p.protocol == proto or "/" not in text)}
    if len(found) != 1:
        names = ", ".join(f"{p.name} {p.port}/{p.protocol.name}" for p in has) or "it names none"
        raise wrong(f"--port {text}: {end.name} has {'several ports' if found else 'no port'} of that name ({names})")
    return found.pop()


def dns_name(text: str) -> str:
    """Read "fqdn:NAME"; raises BadInput."""
    name = dnsnames.canonical(text.removeprefix("fqdn:"))
    if len(name) > 253 or not re.fullmatch(r"[-a-z0-9_]{1,63}(\.[-a-z0-9_]{1,63})*", name):
        raise wrong(f"{text}: no DNS name (letters, digits, - and _ with single dots between them)")
    return name


def given(**options: str | None) -> None:
    """Raises BadInput for an option that is given and empty: a script's variable may be, and who left it out asks about
    something else.
    """
    for name, text in options.items():
        if text == "":
            raise wrong(f"--{name.replace('_', '-')} is empty: give it a value, or leave it out")


def http(method: str | None, path: str | None, host: str | None, headers: tuple[str, ...]) -> request.Request | None:
    """Return the request that is asked about, as the proxy would take it; None where none of its parts is given."""
    if not (method or path or host or headers):
        return None
    if method and not _TOKEN.fullmatch(method):
        raise wrong(f"--method {method}: is no method (letters, digits and dashes, such as GET)")
    if path and path != "*" and not _PATH.fullmatch(path):
        raise wrong(f"--path {path}: must begin with /, or be *, and be of printable ASCII (what is sent is %-encoded)")
    if host and not _is_host(host):
        raise wrong(f"--host {host}: is no host (a name or an address, with a port or without)")
    fields = tuple(map(_field, headers))
    hosts = {value.lower() for name, value in fields if name.lower() == "host"}
    hosts |= {host.lower()} if host else set()
    if len(hosts) > 1:
        raise wrong(f"a request is for one host, not for {' and '.join(sorted(hosts))} (--host, --header 'Host: ...')")
    method = method or "GET"
    if path and (method == "CONNECT" or (path == "*" and method != "OPTIONS")):
        raise wrong(f"--path {path}: {'CONNECT asks for no path' if method == 'CONNECT' else '* is for OPTIONS alone'}")
    if host and all(name.lower() != "host" for name, _ in fields):
        fields = (("Host", host), *fields)
    target = (host or _NO_HOST) if method == "CONNECT" else path or "/"
    try:
        asked = _asked(method, target, fields)
    except head.Malformed as error:
        parts = [*(f"--header {header}" for header in headers), *([f"--path {path}"] if path else [])]
        raise wrong(f"{', '.join(parts)}: the proxy refuses such a request: {error}") from None
    said = tuple(
        (name.decode(errors="surrogateescape"), value.decode(errors="surrogateescape")) for name, value in asked
    )
    return request.Request(method, "" if method == "CONNECT" else target, "".join(hosts), said)


def _asked(method: str, target: str, fields: _Fields) -> tuple[tuple[bytes, bytes], ...]:
    """Return the fields of a request as the proxy takes them from an HTTP/1.1 client; raises Malformed. Where no host
    is said, any will do.
    """
    all_fields = fields if any(name.lower() == "host" for name, _ in fields) else (("Host", ""), *fields)
    lines = "".join(f"{name}:{value}\r\n" for name, value in all_fields)
    whole = f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode(errors="surrogateescape")
    head.end_of(whole)
    found = head.request(whole).fields
    return found if all_fields is fields else found[1:]


def _is_host(text: str) -> bool:
    try:
        return _VISIBLE.fullmatch(text) is not None and bool(_asked("GET", "/", (("Host", text),)))
    except head.Malformed:
        return False


def _field(header: str) -> tuple[str, str]:
    """Read 'Name: value' as the proxy reads a line of a request."""
    name, colon, value = header.partition(":")
    if not colon or not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
        raise wrong(f"--header {header}: must be 'Name: value'")
    field = name, value.strip(" \t")
    try:
        _asked("GET", "/", (field,))
    except head.Malformed as error:
        raise wrong(f"--header {header}: the proxy refuses such a request: {error}") from None
    return field
