"""A loop that stands back comes back, or never went."""

import os
import threading
from collections.abc import Callable

from control.agent.priority import Priority


def _in_thread(body: Callable[[], None]) -> None:
    """A thread of its own: without CAP_SYS_NICE its priority stays as the test leaves it."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            body()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def _nice() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_it_stands_back_and_steps_up_as_far_as_it_may() -> None:
    def body() -> None:
        own, main = _nice(), os.getpriority(os.PRIO_PROCESS, os.getpid())
        loop = Priority()
        loop.stand_back()
        stood = _nice()
        assert os.getpriority(os.PRIO_PROCESS, os.getpid()) == main, "another thread went, too"
        loop.step_up()
        assert _nice() <= stood
        assert (stood, _nice()) == (19, own) if os.geteuid() == 0 else _nice() == stood

    _in_thread(body)


def test_another_thread_may_call_it_up() -> None:
    def body() -> None:
        own = _nice()
        loop = Priority()
        loop.stand_back()
        other = threading.Thread(target=loop.step_up)
        other.start()
        other.join()
        assert _nice() in (own, own + 1)

    _in_thread(body)
