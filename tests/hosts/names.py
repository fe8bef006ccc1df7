"""A name server for tests, on UDP and TCP port 53 and both families: `python -m tests.hosts.names < ZONE`.

A zone is JSON: {"name.": {"A": ["10.0.0.1"], "CNAME": "other.", "ttl": 60}}. A name with "turns": true has one of its
addresses at a time, another one in each answer; one with "silent": true is never answered.
"""

import itertools
import json
import socket
import socketserver
import sys
import threading
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

Zone = dict[str, dict[str, Any]]
_TURN = itertools.count()


def answer(zone: Zone, wire: bytes, most: int) -> bytes:
    """Return the answer to a query, b"" if there is none; one longer than `most`, or than what the client takes, is
    truncated."""
    query = dns.message.from_wire(wire)
    out = dns.message.make_response(query, recursion_available=True)
    question = query.question[0]
    kind = dns.rdatatype.to_text(question.rdtype)
    name = question.name.to_text().lower()
    while (found := zone.get(name)) and "CNAME" in found:
        out.answer.append(dns.rrset.from_text(name, found.get("ttl", 60), "IN", "CNAME", found["CNAME"]))
        name = found["CNAME"]
    if found and found.get("silent"):
        return b""
    if not found:
        out.set_rcode(dns.rcode.NXDOMAIN)
    elif values := found.get(kind):
        if found.get("turns"):
            values = [values[next(_TURN) % len(values)]]
        out.answer.append(dns.rrset.from_text(name, found.get("ttl", 60), "IN", kind, *values))
    room = min(most, max(512, query.payload)) if most < 65535 else most
    whole = out.to_wire(max_size=65535)
    if len(whole) > room:
        out.answer.clear()
        out.flags |= dns.flags.TC
        whole = out.to_wire()
    return whole


class _Datagram(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        data, sock = self.request
        if said := answer(ZONE, data, 4096):
            sock.sendto(said, self.client_address)


class _Stream(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while len(head := self.rfile.read(2)) == 2:
            if said := answer(ZONE, self.rfile.read(int.from_bytes(head, "big")), 65535):
                self.wfile.write(len(said).to_bytes(2, "big") + said)


class _Udp(socketserver.ThreadingUDPServer):
    address_family = socket.AF_INET6
    daemon_threads = True


class _Tcp(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6
    allow_reuse_address = daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    ZONE: Zone = json.load(sys.stdin)
    threading.Thread(target=_Tcp(("::", 53), _Stream).serve_forever, daemon=True).start()
    _Udp(("::", 53), _Datagram).serve_forever()
