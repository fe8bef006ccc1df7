"""What a proxy holds, and that it is in a file whole or not at all."""

import os
import stat
from pathlib import Path

import pytest
from cryptography import x509

from control.certificates import authority, files, keys, leaf
from control.certificates.files import BadFile
from control.certificates.leaf import BadCredential
from control.certificates.spiffe import SpiffeId
from tests.unit.control import forged
from tests.unit.control.forged import DAY, DOMAIN, HOUR, WEB, Made

NOW = 1.8e9
ROOT = forged.root(NOW)
BETWEEN = forged.between(NOW, ROOT, ends=5 * HOUR)
LEAF = forged.leaf(NOW, BETWEEN)
CREDENTIAL = leaf.read(forged.pem(LEAF, BETWEEN))


def test_a_credential() -> None:
    assert CREDENTIAL.id == SpiffeId(DOMAIN, "shop", "web")
    assert CREDENTIAL.chain == (LEAF.certificate, BETWEEN.certificate)
    assert (CREDENTIAL.not_before, CREDENTIAL.not_after) == (NOW - HOUR, NOW + 5 * HOUR)  # of the first that ends
    assert leaf.read(b"\n" + BETWEEN.pem.join([forged.pem(LEAF), b""])) == CREDENTIAL
    assert "PRIVATE" not in repr(CREDENTIAL) and "pem" not in repr(CREDENTIAL)


def test_a_request_names_nobody() -> None:
    for key in (keys.new(), forged.rsa_key()):
        asked = x509.load_pem_x509_csr(leaf.request(key))
        assert asked.subject == x509.Name([]) and len(asked.extensions) == 0 and asked.is_signature_valid


@pytest.mark.parametrize(
    ("chain", "why"),
    [
        ([LEAF._replace(key=ROOT.key)], "not that of"),
        ([ROOT], "no leaf"),
        ([forged.leaf(NOW, ROOT, uris=[])], "0 URIs"),
        ([forged.leaf(NOW, ROOT, uris=[WEB, WEB])], "2 URIs"),
        ([forged.leaf(NOW, ROOT, uris=["spiffe://d/web"])], "it is not spiffe"),
    ],
)
def test_what_is_no_credential(chain: list[Made], why: str) -> None:
    with pytest.raises(BadCredential, match=why):
        leaf.read(forged.pem(*chain))


def test_texts_that_are_no_credential() -> None:
    for text in (b"", b"words", LEAF.pem, keys.to_pem(LEAF.key), keys.to_pem(LEAF.key) * 2 + LEAF.pem):
        with pytest.raises(BadCredential):
            leaf.read(text)


def test_a_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "web.pem"
    before = os.umask(0)
    try:
        CREDENTIAL.save(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert leaf.load(path) == CREDENTIAL and leaf.load(path).pem == CREDENTIAL.pem
    path.chmod(0o640)
    with pytest.raises(BadFile, match=r"web\.pem: others may"):
        leaf.load(path)


def test_a_new_one_takes_the_place_of_the_old_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "web.pem"
    CREDENTIAL.save(path)
    renewed = leaf.read(forged.pem(forged.leaf(NOW + DAY / 2, ROOT)))
    with path.open("rb") as held:  # whoever reads the old one goes on reading it
        renewed.save(path)
        assert held.read() == CREDENTIAL.pem
    assert leaf.load(path) == renewed and os.listdir(tmp_path) == ["web.pem"]


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "web.pem"
    path.mkdir()
    with pytest.raises(BadFile, match=r"web\.pem"):
        CREDENTIAL.save(path)
    assert path.is_dir() and os.listdir(tmp_path) == ["web.pem"]
    with pytest.raises(BadFile):
        CREDENTIAL.save(tmp_path / "missing" / "web.pem")
    assert not files.create(path, b"") and os.listdir(tmp_path) == ["web.pem"]


def test_files_that_are_told_of(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("words")
    (tmp_path / "words").chmod(0o600)
    (tmp_path / "long").write_bytes(b" " * (files.MAX + 1))
    (tmp_path / "long").chmod(0o600)
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    for name in ("words", "long", "pipe", "nowhere", "missing", "."):
        with pytest.raises(BadFile) as caught:
            leaf.load(tmp_path / name)
        assert str(caught.value).startswith(f"{tmp_path / name}: ") and caught.value.path == tmp_path / name


def test_from_a_key_to_a_credential() -> None:
    by = authority.new_root(DOMAIN, NOW)
    key, name = keys.new(), SpiffeId(DOMAIN, "shop", "web")
    credential = leaf.read(keys.to_pem(key) + by.sign(leaf.request(key), name, NOW))
    assert (credential.id, credential.not_after) == (name, NOW + DAY)
