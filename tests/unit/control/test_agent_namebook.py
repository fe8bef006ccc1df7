"""What DNS names resolved to outlives the agent, whatever became of its file."""

from pathlib import Path

import pytest

from control.agent import namebook
from l7proxy.dns.learned import Learned

WEB = Learned("web.example.com", ("192.0.2.1", "2001:db8::1"), 60)


def test_a_successor_knows_what_was_learned(tmp_path: Path) -> None:
    book = namebook.NameBook(tmp_path)
    book.learn([WEB])
    book.learn([Learned("api.example.com", ("192.0.2.2",), 0)])  # its grace time is left
    after = namebook.NameBook(tmp_path)
    assert after.addresses() == book.addresses() == {
        "api.example.com": ("192.0.2.2",), "web.example.com": ("192.0.2.1", "2001:db8::1"),
    }  # fmt: skip
    assert namebook.NameBook(tmp_path).addresses() == book.addresses()


def test_half_a_line_costs_that_line_alone(tmp_path: Path) -> None:
    namebook.NameBook(tmp_path).learn([WEB])
    file = tmp_path / namebook.NAME
    file.write_text(file.read_text() + '[123, "half')
    assert list(namebook.NameBook(tmp_path).addresses()) == ["web.example.com"]


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"[]\n", b'{"a.b": {"300.1.1.1": 5}}\n', b"{}\n5\n", b"[" * 100_000]
)
def test_a_damaged_file_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / namebook.NAME).write_bytes(content)
    book = namebook.NameBook(tmp_path)
    assert book.addresses() == {}
    book.learn([WEB])
    assert list(namebook.NameBook(tmp_path).addresses()) == ["web.example.com"]


def test_what_is_renewed_changes_nothing(tmp_path: Path) -> None:
    book = namebook.NameBook(tmp_path)
    book.learn([WEB])
    before = book.version
    book.learn([WEB])
    assert book.version == before


def test_the_file_does_not_grow_for_ever(tmp_path: Path) -> None:
    book = namebook.NameBook(tmp_path)
    for _ in range(10):
        book.learn([WEB] * 1000)
    assert (tmp_path / namebook.NAME).stat().st_size < 5200 * 100
    assert namebook.NameBook(tmp_path).addresses() == book.addresses()


@pytest.mark.parametrize(
    "told",
    [
        ["Web.example.com", ["192.0.2.1"], 1], ["web.example.com", ["192.0.2.01"], 1], ["web.example.com", [], 1],
        ["web.example.com", ["192.0.2.1"], -1], ["web.example.com", ["192.0.2.1"], "1"], ["x" * 300, ["192.0.2.1"], 1],
        ["web.example.com", "192.0.2.1", 1], ["web.example.com"],
    ],
)  # fmt: skip
def test_what_no_answer_says_is_not_taken(told: list[object]) -> None:
    with pytest.raises((ValueError, TypeError)):
        namebook.read(told)
