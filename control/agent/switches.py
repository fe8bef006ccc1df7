"""The switches of the config record that a person may turn, with their values in words."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from loader import abi
from loader.errors import ConfigInvalid

_ON = {"on": 1, "true": 1, "1": 1, "off": 0, "false": 0, "0": 0}
# Name -> smallest and largest number, or None for on/off.
SWITCHES: dict[str, tuple[int, int] | None] = {
    "acceleration": None,
    "direct_delivery": None,
    "probation_packets": (8, 1_000_000),
    "udp_timeout_s": (1, 86_400),
    "tcp_timeout_s": (60, 864_000),
    "tcp_close_timeout_s": (1, 3_600),
    "icmp_timeout_s": (1, 3_600),
}

# What the agent is told at its start, and by which option.
OPTIONS = {"mtls": "`sockmesh agent --mtls`"}

_SHOWN = {name for name, _, _ in abi.Config.FIELDS if not name.startswith("pad")}


def parse(name: str, text: str) -> int:
    """Return a switch's value; raises ConfigInvalid saying what is allowed."""
    name = name.replace("-", "_")
    if name not in SWITCHES and name in _SHOWN:
        by = f"{OPTIONS[name]} does" if name in OPTIONS else "the agent sees to it"
        raise ConfigInvalid(f"config: {name} cannot be set, {by} ({', '.join(SWITCHES)} can)")
    if name not in SWITCHES:
        raise ConfigInvalid(f"config: unknown switch {name!r} ({', '.join(SWITCHES)})")
    bounds = SWITCHES[name]
    if bounds is None:
        if text.lower() not in _ON:
            raise ConfigInvalid(f"config: {name}: {text[:40]!r} is neither on nor off")
        return _ON[text.lower()]
    low, high = bounds
    if not (text.isascii() and text.isdecimal()) or len(text) > 20 or not low <= int(text) <= high:
        raise ConfigInvalid(f"config: {name}: {text[:40]!r} is not a number from {low} to {high}")
    return int(text)


def with_changes(config: abi.Config, changes: Mapping[str, Any]) -> abi.Config:
    """Return the record with other switches, given as text by name; raises ConfigInvalid."""
    values = {name.replace("-", "_"): parse(name, str(text)) for name, text in changes.items()}
    return dataclasses.replace(config, **values)
