"""Services and the backends that calls to them are sent to."""

import dataclasses
from collections.abc import Iterable

from control.inspect import words
from control.names import Names
from loader import abi


@dataclasses.dataclass(frozen=True)
class ServiceRow:
    """One address of a service. Without backends, calls to it are refused at once."""

    id: int
    name: str
    address: str
    ip: str
    port: int
    proto: str
    backends: tuple[words.End, ...]
    missing: int  # backends that the service counts but that have no entry


def rows(
    services: Iterable[tuple[abi.ServiceKey, abi.Service]],
    backends: Iterable[tuple[abi.BackendKey, abi.Backend]],
    names: Names,
) -> tuple[ServiceRow, ...]:
    """Return every service address, by name."""
    found = {(key.service, key.index): value for key, value in backends}
    out = []
    for key, service in services:
        own = [found.get((service.id, index)) for index in range(service.backends)]
        address = words.end(names, key.addr, key.port)
        known = names.services.get(service.id)
        out.append(
            ServiceRow(
                id=service.id,
                name=f"{known.namespace}/{known.name}" if known else f"service {service.id}",
                address=address.address,
                ip=address.ip,
                port=key.port,
                proto=words.proto_word(key.proto),
                backends=tuple(words.end(names, b.addr, b.port) for b in own if b),
                missing=sum(b is None for b in own),
            )
        )
    return tuple(sorted(out, key=lambda r: (r.name, r.ip, r.port, r.proto)))


def matching(found: Iterable[ServiceRow], wanted: str) -> tuple[ServiceRow, ...]:
    """Return the addresses of a service given by namespace/name, name, IP or address:port."""
    return tuple(r for r in found if wanted in (r.name, r.name.rpartition("/")[2], r.ip, r.address, f"{r.ip}:{r.port}"))
