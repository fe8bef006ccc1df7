"""The directory of the control side: made once, rotated, and never written over."""

import multiprocessing
import os
import stat
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from control.certificates import authority, certificate, files, roots
from control.certificates.files import BadFile
from control.certificates.store import BUNDLE, Store
from tests.unit.control.forged import DAY, DOMAIN

NOW = 1.8e9


def contents(directory: Path) -> dict[str, bytes]:
    return {name: (directory / name).read_bytes() for name in sorted(os.listdir(directory))}


def test_the_first_root_is_made_once(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "ca"
    store = Store(directory, DOMAIN)
    made = store.authority(NOW)
    assert sorted(os.listdir(directory)) == [BUNDLE, "root-1.pem"]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE((directory / "root-1.pem").stat().st_mode) == 0o600
    before = contents(directory)
    again = Store(directory, DOMAIN)
    assert again.authority(NOW + DAY) == made and again.bundle(NOW).roots == (made.root,)
    assert contents(directory) == before


def test_a_start_that_was_cut_short_goes_on(tmp_path: Path) -> None:
    store = Store(tmp_path, DOMAIN)
    made = store.authority(NOW)
    (tmp_path / BUNDLE).unlink()
    (tmp_path / ".root-1.pem.abcd").write_bytes(b"half a ro")
    assert store.authority(NOW) == made


def test_a_rotation(tmp_path: Path) -> None:
    store = Store(tmp_path, DOMAIN)
    old = store.authority(NOW)
    both = store.begin(NOW)
    assert store.bundle(NOW) == both and both.current == old.root and store.authority(NOW) == old
    with pytest.raises(roots.NotNow):
        store.begin(NOW)
    new = store.authority(both.switches_at)
    assert new.root == both.new
    with pytest.raises(roots.NotNow):
        store.finish(both.switches_at)
    assert store.finish(both.drained_at).roots == (new.root,) and store.authority(both.drained_at) == new
    assert sorted(os.listdir(tmp_path)) == [BUNDLE, "root-1.pem", "root-2.pem"]
    later = store.begin(both.drained_at)
    store.finish(later.drained_at)
    assert store.authority(later.drained_at).root == later.new not in (old.root, new.root)
    assert (tmp_path / "root-3.pem").exists()


def test_a_rotation_that_was_cut_short_takes_the_root_it_made(tmp_path: Path) -> None:
    store = Store(tmp_path, DOMAIN)
    store.authority(NOW)
    before = (tmp_path / BUNDLE).read_bytes()
    new = store.begin(NOW).new
    (tmp_path / BUNDLE).write_bytes(before)
    assert store.begin(NOW + 60).new == new


def _starts(directory: Path, gate: Barrier, told: "multiprocessing.Queue[str]") -> None:
    gate.wait()
    told.put(Store(directory, DOMAIN).authority(NOW).root.fingerprint)


def test_two_that_start_at_once_have_one_root(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for attempt in range(5):
        directory = tmp_path / str(attempt)
        gate, told = context.Barrier(3), context.Queue()
        processes = [context.Process(target=_starts, args=(directory, gate, told)) for _ in range(3)]
        for process in processes:
            process.start()
        found = {told.get(timeout=30) for _ in processes}
        for process in processes:
            process.join(30)
            assert process.exitcode == 0
        assert found == {Store(directory, DOMAIN).authority(NOW).root.fingerprint}
        assert sorted(os.listdir(directory)) == [BUNDLE, "root-1.pem"]


def test_one_of_two_makes_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert files.create(path, b"first") and not files.create(path, b"second")
    assert contents(tmp_path) == {"file": b"first"}


OWN = authority.new_root(DOMAIN, NOW).to_pem()
FOREIGN = authority.new_root("other", NOW).to_pem()
LATE = authority.new_root(DOMAIN, NOW - 4000 * DAY).to_pem()


@pytest.mark.parametrize(
    ("content", "mode", "why"),
    [
        (b"", 0o600, "there is no certificate"),
        (b"words", 0o600, "there is no certificate"),
        (OWN[:-100], 0o600, "cut short"),
        (OWN[OWN.index(b"-----BEGIN CERT") :], 0o600, "there is no private key"),
        (OWN[: OWN.index(b"-----BEGIN CERT")] + FOREIGN[FOREIGN.index(b"-----BEGIN CERT") :], 0o600, "key is not that"),
        (FOREIGN, 0o600, "not of the trust domain"),
        (LATE, 0o600, "expired"),
        (OWN, 0o644, "others may read"),
        (OWN, 0o620, "others may read or write"),
        (OWN + b" " * files.MAX, 0o600, "longer than"),
    ],
)
def test_a_file_in_the_way_is_told_of_and_left(tmp_path: Path, content: bytes, mode: int, why: str) -> None:
    path = tmp_path / "root-1.pem"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(BadFile, match=why) as caught:
        Store(tmp_path, DOMAIN).authority(NOW)
    assert caught.value.path == path and str(path) in str(caught.value)
    assert contents(tmp_path) == {"root-1.pem": content} and stat.S_IMODE(path.stat().st_mode) == mode


def test_other_things_in_the_way(tmp_path: Path) -> None:
    for kind in ("directory", "link", "pipe"):
        directory = tmp_path / kind
        directory.mkdir()
        path = directory / "root-1.pem"
        if kind == "directory":
            path.mkdir()
        elif kind == "link":
            path.symlink_to("nowhere")
        else:
            os.mkfifo(path, 0o600)
        with pytest.raises(BadFile, match=r"root-1\.pem"):
            Store(directory, DOMAIN).authority(NOW)
        assert os.listdir(directory) == ["root-1.pem"]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BadFile, match="file: "):
        Store(tmp_path / "file", DOMAIN).authority(NOW)
    with pytest.raises(BadFile):
        Store(tmp_path / "file" / "below", DOMAIN).authority(NOW)


def test_a_bundle_in_the_way(tmp_path: Path) -> None:
    store = Store(tmp_path, DOMAIN)
    store.begin(NOW)
    path = tmp_path / BUNDLE
    whole = path.read_bytes()
    other = roots.TrustBundle(DOMAIN, authority.new_root(DOMAIN, NOW).root).to_json().encode()
    (foreign,) = certificate.read_pem(FOREIGN)
    for content, why in (
        (b"", "it is no bundle"),
        (whole[:-9], "it is no bundle"),
        (roots.TrustBundle("other", foreign).to_json().encode(), "trust domain other"),
        (other, "no file beside it"),
    ):
        path.write_bytes(content)
        with pytest.raises(BadFile, match=why) as caught:
            store.authority(NOW)
        assert caught.value.path == path and path.read_bytes() == content
    path.unlink()  # a rotation may have taken root-1 away: to trust it again would be worse than to stop
    with pytest.raises(BadFile, match="more than one root"):
        store.authority(NOW)
    assert sorted(os.listdir(tmp_path)) == ["root-1.pem", "root-2.pem"]
