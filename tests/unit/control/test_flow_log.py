"""The flow log keeps every line or counts it as lost; nothing that reads or stores it can hold the writer up."""

import errno
import json
import os
import pathlib
import stat
import threading
import time
from collections.abc import Iterator

import pytest

from control.flow import log, sink


def lines(first: int, last: int) -> list[bytes]:
    return [b"%03d\n" % n for n in range(first, last)]


def gap(line: bytes) -> tuple[str, int]:
    """Return which node says that how many lines are missing."""
    found = json.loads(line)
    assert found["lost_events"]["source"] == "OBSERVER_EVENTS_QUEUE"
    return found.get("node_name", ""), int(found["lost_events"]["num_events_lost"])


def read(path: pathlib.Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "logs" / "flows.log"


def test_rotation_keeps_whole_lines_in_order(path: pathlib.Path) -> None:
    target = sink.FileSink(str(path), max_bytes=12, keep=2)
    target.write(lines(0, 10))
    files = [read(path), read(path.with_name("flows.log.1")), read(path.with_name("flows.log.2"))]
    assert files == [b"009\n", b"006\n007\n008\n", b"003\n004\n005\n"]
    assert sorted(os.listdir(path.parent)) == ["flows.log", "flows.log.1", "flows.log.2"]
    assert (target.written, target.lost, target.error) == (10, 0, "")


def test_nothing_is_kept_if_nothing_shall_be(path: pathlib.Path) -> None:
    sink.FileSink(str(path), max_bytes=8, keep=0).write(lines(0, 3))
    assert (read(path), os.listdir(path.parent)) == (b"002\n", ["flows.log"])


def test_a_line_above_the_limit_gets_its_own_file(path: pathlib.Path) -> None:
    target = sink.FileSink(str(path), max_bytes=6, keep=5)
    target.write([b"a\n", b"long enough\n", b"b\n"])
    assert [read(path), read(path.with_name("flows.log.1")), read(path.with_name("flows.log.2"))] == [
        b"b\n", b"long enough\n", b"a\n",
    ]  # fmt: skip


def test_an_old_file_is_continued(path: pathlib.Path) -> None:
    for n in range(3):
        target = sink.FileSink(str(path))
        target.write(lines(n, n + 1))
        target.close()
    assert read(path) == b"000\n001\n002\n"


def test_only_the_owner_may_read_it_whatever_the_umask(path: pathlib.Path) -> None:
    before = os.umask(0)
    try:
        sink.FileSink(str(path)).write(lines(0, 1))
        sink.FileSink(str(path.with_name("open")), mode=0o644).write(lines(0, 1))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.with_name("open").stat().st_mode) == 0o644


@pytest.mark.parametrize("how", ["moved", "deleted", "replaced", "truncated", "directory gone"])
def test_a_file_that_others_touch(path: pathlib.Path, how: str) -> None:
    target = sink.FileSink(str(path), max_bytes=100)
    target.write(lines(0, 2))
    moved = path.with_name("moved")
    match how:
        case "moved":
            path.rename(moved)
        case "deleted":
            path.unlink()
        case "replaced":
            path.rename(moved)
            path.write_bytes(b"new\n")
        case "truncated":
            os.truncate(path, 0)
        case "directory gone":
            path.unlink()
            path.parent.rmdir()
    target.write(lines(2, 3))
    assert read(path) == (b"new\n002\n" if how == "replaced" else b"002\n")
    assert read(moved) == (b"000\n001\n" if how in ("moved", "replaced") else b"")
    assert (target.written, target.lost) == (3, 0)


def test_a_full_disk_loses_lines_and_says_so() -> None:
    target = sink.FileSink("/dev/full")
    target.write(lines(0, 3))
    assert (target.written, target.lost, target.error) == (0, 3, "/dev/full: No space left on device")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_half_a_line_never_stays(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    target = sink.FileSink(str(path))
    target.write(lines(0, 2))
    real, calls = os.write, []

    def write(fd: int, data: bytes) -> int:
        calls.append(fd)
        if len(calls) > 1:
            raise OSError(code, os.strerror(code))
        return real(fd, data[:6])

    with monkeypatch.context() as broken:
        broken.setattr(os, "write", write)
        target.write(lines(2, 5))
    assert read(path) == b"000\n001\n"
    assert (target.written, target.lost, target.error) == (2, 3, f"{path}: {os.strerror(code)}")
    target.write(lines(5, 6))
    *before, told, after = read(path).splitlines(keepends=True)
    assert (before, gap(told), after) == (lines(0, 2), ("", 3), b"005\n")
    assert (target.written, target.lost, target.error) == (3, 3, "")


def test_where_lines_are_missing_a_line_says_how_many(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = sink.FileSink(str(path))
    flows = log.FlowLog([target], "n1")

    def write(first: int, last: int) -> None:
        flows.write(lines(first, last))
        flows.flush()

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write(0, 1)
    for again in range(2):
        with monkeypatch.context() as broken:
            broken.setattr(os, "write", full)
            write(1, 3)
            write(3, 4)
        if not again:
            write(4, 6)
    flows.close()  # no line comes after the second gap
    first, told, *rest, last = read(path).splitlines(keepends=True)
    assert ([first, *rest], gap(told), gap(last)) == ([*lines(0, 1), *lines(4, 6)], ("n1", 3), ("n1", 3))
    assert (target.written, target.lost) == (3, 6)


def test_the_agents_log_tells_when_lines_begin_to_be_lost_and_when_that_ends(
    path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "sockmesh.agent")

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = sink.FileSink(str(path))
    for first in (0, 10):
        target.write(lines(first, first + 1))
        with monkeypatch.context() as broken:
            broken.setattr(os, "write", full)
            target.write(lines(first + 1, first + 3))
            target.write(lines(first + 3, first + 4))
    target.write(lines(20, 21))
    target.write(lines(21, 22))
    full_words = f"flow log {path}: No space left on device: records are lost until it is mended"
    well_words = f"flow log {path}: records are written again; 3 are missing"
    assert [each.getMessage() for each in caplog.records] == [full_words, well_words] * 2


@pytest.mark.parametrize("left", [b"", b"000\n", b"000\n001\n"])
@pytest.mark.parametrize("torn", [b"", b"{", b'{"flow":{"uuid":"9ec8', b'{"flow":' + b" " * 5000])
def test_half_a_line_that_a_killed_predecessor_left_is_cut_off(path: pathlib.Path, left: bytes, torn: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(left + torn)
    target = sink.FileSink(str(path), max_bytes=12)
    assert read(path) == left
    target.write(lines(2, 3))
    assert read(path) == left + b"002\n"


def test_what_is_not_ours_is_not_cut_off(path: pathlib.Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"my only letter")
    sink.FileSink(str(path)).write(lines(0, 1))
    assert read(path) == b"my only letter\n000\n"


def test_a_wrong_path_shows_at_start_and_heals(tmp_path: pathlib.Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    target = sink.FileSink(str(blocked / "flows.log"))
    assert target.error.endswith("flows.log: Not a directory") or target.error.endswith("flows.log: File exists")
    blocked.unlink()
    target.write(lines(0, 1))
    assert (read(blocked / "flows.log"), target.error) == (b"000\n", "")


def test_a_named_pipe_without_reader_does_not_block(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    target = sink.FileSink(str(tmp_path / "pipe"))
    target.write(lines(0, 1))
    assert (target.written, target.lost) == (0, 1)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            continue


def test_a_stream_nobody_reads_does_not_block_and_gets_whole_lines(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    target = sink.StreamSink(writer, patience=0.01)
    long = [bytes([65 + n % 26]) * 5000 + b"\n" for n in range(40)]
    started = time.monotonic()
    target.write(long)
    assert time.monotonic() - started < 2
    assert target.lost > 0 and target.written + target.lost == 40
    assert target.error == "-: the reader is too slow"
    got = b""
    written = target.written
    while len(got) < sum(map(len, long[:written])):
        got += os.read(reader, 1 << 20)
        target.write([])  # what is left of the torn line follows
    assert got == b"".join(long[:written])
    lost = target.lost
    target.write([b"next\n"])
    told, after = os.read(reader, 1000).splitlines()
    assert (gap(told), after, target.error, target.lost) == (("", lost), b"next", "", lost)


def test_many_batches_wait_no_longer_than_one(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    target = sink.StreamSink(writer, patience=0.4)
    started = time.monotonic()
    for _ in range(50):
        target.write([bytes(5000) + b"\n"] * 12)
    assert 0.4 <= time.monotonic() - started < 2  # 20 if each waited
    os.read(reader, 1 << 20)
    time.sleep(0.4)
    lost = target.lost
    threading.Timer(0.05, os.read, (reader, 1 << 20)).start()
    target.write([bytes(5000) + b"\n"] * 12)  # more than a pipe takes: patience is back, and waits for the reader
    assert target.lost == lost


def test_a_stream_whose_reader_left(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    target = sink.StreamSink(writer)
    os.close(reader)
    target.write(lines(0, 2))
    assert (target.written, target.lost, target.error) == (0, 2, "-: Broken pipe")


def test_make() -> None:
    assert isinstance(sink.make("-"), sink.StreamSink)
    assert isinstance(sink.make("/dev/null"), sink.FileSink)


def test_one_bad_sink_does_not_stop_the_others(path: pathlib.Path) -> None:
    flows = log.FlowLog([sink.FileSink("/dev/full"), sink.FileSink(str(path))])
    flows.write(lines(0, 2))
    flows.write(b"002\n")
    assert read(path) == b""  # until the batch ends
    flows.flush()
    flows.flush()
    assert read(path) == b"000\n001\n002\n"
    assert flows.stats() == log.FlowLogStats(
        3,
        (log.SinkStats("/dev/full", 0, 3, "/dev/full: No space left on device"), log.SinkStats(str(path), 3, 0)),
    )


def test_the_ring_keeps_the_newest() -> None:
    flows = log.FlowLog(recent=3)
    flows.write(lines(0, 5))
    flows.flush()
    assert flows.recent() == lines(2, 5)
    flows.write(lines(5, 7))
    flows.flush()
    assert flows.recent() == flows.follow()[0] == lines(4, 7)


def test_the_ring_does_not_hold_what_it_does_not_show() -> None:
    flows = log.FlowLog(recent=10)
    for count in (1000, 1, 9, 4, 4, 1, 1, 1, 1000, 3):
        flows.write(lines(0, count))
        flows.flush()
        assert sum(len(block) for block, _ in flows._recent) <= 4 * (10 + 9)
    assert flows.recent() == lines(993, 1000) + lines(0, 3)


def test_a_slow_follower_loses_the_oldest_and_is_told() -> None:
    flows = log.FlowLog(node="n1")
    _, slow = flows.follow(limit=3)
    _, quick = flows.follow(limit=100)
    for n in range(5):
        flows.write(lines(n, n + 1))
        flows.flush()
    told, *rest = slow.take()
    parsed = json.loads(told)
    parsed.pop("time")
    assert parsed == {"lost_events": {"source": "OBSERVER_EVENTS_QUEUE", "num_events_lost": "2"}, "node_name": "n1"}
    assert rest == lines(2, 5)
    assert quick.take() == lines(0, 5)
    assert (slow.take(), slow.lost, quick.lost) == ([], 2, 0)
    assert flows.stats() == log.FlowLogStats(lines=5, observers=2, observers_lost=2)
    slow.close()
    slow.close()
    assert flows.stats().observers == 1


def test_all_queues_together_have_a_limit_and_the_fullest_lose_first() -> None:
    flows = log.FlowLog(queues=600)
    slow, slower, quick = (flows.follow()[1] for _ in range(3))
    kept: list[bytes] = []
    sizes: list[int] = []
    for n in range(1000):
        flows.write(lines(n, n + 1))
        flows.flush()
        sizes.append(slow.size + slower.size + quick.size)
        kept += quick.take()
        if n == 979:
            late = slow.take()
            assert (gap(late[0]), late[1:]) == (("", slow.lost), lines(slow.lost, 980))
    assert max(sizes) <= 600 and sizes[979] > 580
    assert (kept, quick.lost) == (lines(0, 1000), 0)
    assert slow.take() == lines(980, 1000)
    late = slower.take()
    assert (gap(late[0]), late[1:]) == (("", slower.lost), lines(slower.lost, 1000))
    assert flows.stats().observers_lost == slow.lost + slower.lost
    assert [queue.size for queue in (slow, slower, quick)] == [0, 0, 0]


def test_a_follower_takes_no_more_at_once_than_a_mouthful() -> None:
    flows = log.FlowLog()
    _, late = flows.follow()
    sent = [bytes([65 + n % 26]) * 99_999 + b"\n" for n in range(20)]
    flows.write(sent)
    flows.write(huge := bytes(3_000_000) + b"\n")
    flows.flush()
    got = [late.take() for _ in range(12)]
    assert got == [sent[n : n + 2] for n in range(0, 20, 2)] + [[huge], []]


def test_following_has_no_gap_and_nothing_twice() -> None:
    flows = log.FlowLog(recent=100_000)
    total = 5000
    results: list[list[bytes]] = []

    def follower() -> None:
        recent, subscription = flows.follow(limit=100_000)
        got = list(recent)
        with subscription:
            while len(got) < total and (more := subscription.take(5.0)):
                got += more
        results.append(got)

    threads = [threading.Thread(target=follower) for _ in range(4)]
    for n in range(total):
        if n % 1000 == 0 and n < 4000:
            threads[n // 1000].start()
        flows.write(b"%d\n" % n)
        if n % 7 == 0:
            flows.flush()
    flows.flush()
    for thread in threads:
        thread.join()
    assert results == [[b"%d\n" % n for n in range(total)]] * 4


def test_closing_the_log_ends_its_followers(path: pathlib.Path) -> None:
    flows = log.FlowLog([sink.FileSink(str(path))])
    told: list[bool] = []
    _, subscription = flows.follow(notify=lambda: told.append(True))
    flows.write(lines(0, 1))
    flows.close()
    assert (subscription.take(None), subscription.take(None), subscription.closed) == ([b"000\n"], [], True)
    assert (read(path), len(told)) == (b"000\n", 2)
