"""Listening sockets go from hand to hand over a real Unix socket; who waits in them is served by whoever has them."""

import socket
import threading
from pathlib import Path

from l7proxy.edge import handover


def door() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def announced(run_dir: Path) -> socket.socket:
    sock = handover.listen(run_dir)
    handover.announce(run_dir)
    return sock


def give_once(listener: socket.socket, doors: list[socket.socket], is_all: bool) -> threading.Thread:
    def run() -> None:
        listener.setblocking(True)
        caller = handover.give(listener, doors, 7, is_all)
        assert caller
        caller.setblocking(True)
        with caller:
            said.append(handover.said_go(caller))

    said: list[bool] = []
    thread = threading.Thread(target=run, daemon=True)
    thread.said = said  # type: ignore[attr-defined]
    thread.start()
    return thread


def test_nobody_is_there(tmp_path: Path) -> None:
    assert list(handover.take(tmp_path, 7)) == []
    announced(tmp_path).close()  # one that died
    assert list(handover.take(tmp_path, 7)) == []


def test_one_that_is_not_announced_is_not_called(tmp_path: Path) -> None:
    with handover.listen(tmp_path):
        assert list(handover.take(tmp_path, 7)) == []


def test_who_waits_in_a_door_is_served_by_the_next(tmp_path: Path) -> None:
    with door() as mine, announced(tmp_path) as listener:
        thread = give_once(listener, [mine], is_all=True)
        with socket.create_connection(mine.getsockname()) as client:
            ((before, (theirs,)),) = handover.take(tmp_path, 7)
            mine.close()
            handover.go([before])
            thread.join(5)
            accepted, _ = theirs.accept()
            with accepted, theirs:
                accepted.sendall(b"here")
                assert client.recv(4) == b"here" and thread.said == [True]  # type: ignore[attr-defined]


def test_doors_of_another_namespace_are_not_taken_but_their_holder_is_told(tmp_path: Path) -> None:
    with door() as mine, announced(tmp_path) as listener:
        thread = give_once(listener, [mine], is_all=True)
        ((before, doors),) = handover.take(tmp_path, 8)
        assert doors == []
        before.close()  # it fails before it serves
        thread.join(5)
        assert thread.said == [False]  # type: ignore[attr-defined]


def test_each_of_several_holders_gives_its_own(tmp_path: Path) -> None:
    with door() as one, door() as two, announced(tmp_path) as listener:
        other = listener.dup()
        threads = [give_once(listener, [one], is_all=False), give_once(other, [two], is_all=False)]
        taken = list(handover.take(tmp_path, 7))  # and then nobody answers
        ports = {each.getsockname()[1] for _, doors in taken for each in doors}
        assert ports == {one.getsockname()[1], two.getsockname()[1]}
        handover.go([before for before, _ in taken])
        for thread in threads:
            thread.join(5)
            assert thread.said == [True]  # type: ignore[attr-defined]
        for _, doors in taken:
            for each in doors:
                each.close()
        other.close()
