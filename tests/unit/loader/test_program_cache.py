"""What is compiled is kept as instructions that name their maps, and comes back whole or not at all."""

import json
import struct
from pathlib import Path

import pytest

from loader.cache import Cache
from loader.errors import ConfigInvalid
from loader.instructions import Body, Compiled, Shape


def _wide(source: int, value: int) -> bytes:
    return struct.pack("=BBhi", 0x18, source << 4 | 1, 0, value) + struct.pack("=BBhi", 0, 0, 0, 0)


_PLAIN = struct.pack("=BBhi", 0xB7, 0, 0, 7)  # r0 = 7
_CODE = _PLAIN + _wide(1, 7) + _wide(0, 7) + _PLAIN + _wide(1, 9)
_COMPILED = Compiled({"to_pod": Body.of(_CODE, {7: "policy", 9: "ct"})}, {"scratch": Shape(6, 4, 700, 1, 0)})


def test_only_what_names_a_map_is_bound_anew() -> None:
    body = _COMPILED.bodies["to_pod"]
    assert body.maps == ((1, "policy"), (6, "ct"))
    assert body.bound({"policy": 7, "ct": 9}) == _CODE
    assert body.bound({"policy": 31, "ct": 32}) == _PLAIN + _wide(1, 31) + _wide(0, 7) + _PLAIN + _wide(1, 32)


def test_a_map_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(KeyError):
        Body.of(_CODE, {7: "policy"})
    with pytest.raises(KeyError):
        _COMPILED.bodies["to_pod"].bound({"policy": 7})


def test_it_comes_back_as_it_was(tmp_path: Path) -> None:
    Cache(tmp_path / "programs").put("key", _COMPILED)
    assert Cache(tmp_path / "programs").get("key") == _COMPILED
    assert Cache(tmp_path / "programs").get("other") is None
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "programs").iterdir()] == [0o600]


def test_what_is_not_whole_is_none(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "programs")
    cache.put("key", _COMPILED)
    path = tmp_path / "programs" / "key"
    whole = path.read_bytes()
    for part in (b"", whole[:40], whole[:-1], whole + b" ", whole.replace(b"policy", b"pol1cy"), b"\n" + whole):
        path.write_bytes(part)
        assert cache.get("key") is None
    path.write_bytes(whole)
    assert cache.get("key") == _COMPILED
    assert json.loads(whole.partition(b"\n")[2])[1] == {"scratch": [6, 4, 700, 1, 0]}


def test_nobody_else_may_write_there(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "file").touch()
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    for name in ("open", "file", "link"):
        with pytest.raises(ConfigInvalid, match=f"--program-cache .*/{name}: "):
            Cache(tmp_path / name)


def test_old_programs_go(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for number in range(70):
        cache.put(f"{number}", _COMPILED)
    assert len(list(tmp_path.iterdir())) == 64 and cache.get("69") == _COMPILED
