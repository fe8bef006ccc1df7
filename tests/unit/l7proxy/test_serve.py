"""The master of the node proxy: whom it takes over from, and when."""

import socket
from pathlib import Path
from typing import Any, cast

import pytest

from l7proxy.edge import handover
from l7proxy.edge.limits import Limits
from l7proxy.process import Process
from l7proxy.serve import Master


class Ready:
    """A worker that has taken up what is in force."""

    is_running, is_stuck, may_start, turn = True, False, False, 1

    def ended(self) -> None:
        return None

    def drain(self) -> None:
        pass


@pytest.mark.parametrize("is_stopped", [False, True])
def test_the_master_before_is_sent_away_by_one_that_serves_and_not_by_one_that_ends(
    tmp_path: Path, is_stopped: bool
) -> None:
    before, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    master: Any = Master(tmp_path, 1, Limits())
    master._processes = [cast(Process, Ready())]
    master._next_try = float("inf")  # no agent is asked
    master._heir = handover.listen(tmp_path)
    with before, (tmp_path / "proxy.lock").open("ab") as lock, master._heir:
        master._lock, master._before = lock, [ours]
        if is_stopped:
            master.stop()
        master._look_after()
        for sock in master._before:
            sock.close()
        assert handover.said_go(before) is not is_stopped
