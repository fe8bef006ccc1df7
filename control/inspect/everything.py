"""The content of one agent's maps for a bug report: rows with names where there are any, records in words elsewhere."""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from control import editions
from control.flow.summary import accel_word
from control.inspect import (
    addresses,
    barred,
    counters,
    endpoints,
    inforce,
    policies,
    services,
    settings,
    socks,
    tcp,
    tracking,
)
from control.names import Names
from loader import abi
from loader.maps import Maps
from loader.record import Record, unpack_addr

Json = dict[str, Any]


def plain(record: Record) -> Json:
    """Return a record's fields, addresses as text; padding is left out."""
    out: Json = {}
    for name, scalar, _ in record.FIELDS:
        if not name.startswith("pad"):
            value = getattr(record, name)
            out[name] = unpack_addr(value) if scalar.code == "16s" else value
    return out


def _bounded(found: Iterable[Any], most: int) -> tuple[list[Any], bool]:
    kept = list(itertools.islice(found, most + 1))
    return kept[:most], len(kept) > most


def content(opened: Maps, names: Names, links: dict[str, list[str]], now: int, most: int) -> Iterator[tuple[str, Json]]:
    """Yield (map, {"rows": ..., "cut": whether it had more than `most` entries}) for every map that can be read."""

    def section(name: str, make: Callable[[list[Any]], Iterable[Any]]) -> tuple[str, Json]:
        entries, cut = _bounded(opened[name].items(), most)
        return name, {"rows": list(make(entries)), "cut": cut}

    config = opened.config.get_at(0)
    state, held = inforce.state(opened), inforce.endpoints(opened)
    policy = list(opened.policy.items())
    users = policies.endpoints_by_set(held, names)
    yield "config", {"rows": list(settings.rows(config, state)), "cut": False}
    yield "edition", {"rows": [{"state": int(state), "word": state.name.lower()}], "cut": False}
    found = endpoints.rows(held, endpoints.set_facts(policy), names, links, barred.endpoints(opened))
    yield "endpoints", {"rows": list(found), "cut": False}
    yield section("policy", lambda found: policies.rows(found, names, users))
    prefixes, cut = _bounded(inforce.ipcache(opened), most)
    yield "ipcache", {"rows": list(addresses.rows(prefixes, names)), "cut": cut}
    yield section("conns", lambda found: socks.rows(found, names, tcp.look(found, names), now))
    yield section("ct", lambda found: tracking.rows(found, names, config.generation, now))
    yield section("services", lambda found: services.rows(found, opened.backends.items(), names))
    yield section("traffic", lambda found: counters.traffic(found, opened.counter))
    for name in ("endpoint_ips", "endpoint_netns", "endpoint_ifaces", "backends", "reverse", "frags", "roads"):
        yield section(name, lambda found: [plain(key) | plain(value) for key, value in found])
    yield section("caught", lambda found: [plain(k) | plain(v) | {"word": accel_word(v.reason)} for k, v in found])
    cookies, cut = _bounded(opened.socks.raw_items(), most)
    yield "socks", {"rows": [abi.CookieKey.unpack(key).cookie for key, _ in cookies], "cut": cut}
    readings = [[cpu.value for cpu in opened.counters.cpus_at(int(metric))] for metric in abi.Metric]
    yield "counters", {"rows": list(counters.counters(readings)), "cut": False}
    for name in ("conns", *editions.MAPS):
        raw, cut = _bounded(opened[name].items(), most)
        yield f"{name}_raw", {"rows": [plain(key) | plain(value) for key, value in raw], "cut": cut}


def names_json(names: Names) -> Json:
    """Return all names, as plain data."""
    return dataclasses.asdict(names)
