"""What a worker waits for before a client hears of an address."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from control import model
from l7proxy.dns.learned import Learned
from l7proxy.edge.teacher import Teacher

WEB = Learned("web.example.com", ("192.0.2.1",), 60)


def play(scene: Callable[[Teacher, list[Any], list[str]], Awaitable[None]]) -> None:
    """`frames`: what went to the agent; `heard`: which answers went out."""

    async def run() -> None:
        frames: list[Any] = []
        teacher = Teacher(frames.append)
        teacher.want([model.NamePeer(pattern="*.example.com")])
        await scene(teacher, frames, [])

    asyncio.run(run())


def test_the_agent_is_waited_for_and_told_of_many_at_once() -> None:
    async def scene(teacher: Teacher, frames: list[Any], heard: list[str]) -> None:
        teacher.learn(WEB, lambda: heard.append("web"))
        teacher.learn(Learned("api.example.com", ("192.0.2.2",), 5), lambda: heard.append("api"))
        await asyncio.sleep(0)
        [(_, number, told)] = frames
        assert told == [["web.example.com", ("192.0.2.1",), 60], ["api.example.com", ("192.0.2.2",), 5]]
        assert heard == []
        teacher.in_force(number + 1)
        assert heard == []
        teacher.in_force(number)
        teacher.in_force(number)
        assert heard == ["web", "api"]

    play(scene)


def test_what_no_rule_means_and_what_was_said_just_now_waits_for_nobody() -> None:
    async def scene(teacher: Teacher, frames: list[Any], heard: list[str]) -> None:
        teacher.learn(Learned("web.example.org", ("192.0.2.1",), 60), lambda: heard.append("other"))
        assert heard == ["other"]
        teacher.learn(WEB, lambda: heard.append("first"))
        await asyncio.sleep(0)
        teacher.in_force(frames[0][1])
        teacher.learn(WEB, lambda: heard.append("again"))
        assert heard == ["other", "first", "again"]
        teacher.learn(WEB._replace(addresses=("192.0.2.9",)), lambda: heard.append("new"))
        assert heard == ["other", "first", "again"]
        teacher.want([model.NamePeer(name="web.example.com")])  # other rules: who knows what is in force of theirs
        teacher.learn(WEB, lambda: heard.append("anew"))
        assert heard == ["other", "first", "again"]

    play(scene)


def test_a_second_is_enough() -> None:
    async def scene(teacher: Teacher, frames: list[Any], heard: list[str]) -> None:
        done = asyncio.Event()
        began = asyncio.get_running_loop().time()
        teacher.learn(WEB, done.set)
        await asyncio.wait_for(done.wait(), 5)
        assert asyncio.get_running_loop().time() - began > 0.9
        teacher.in_force(frames[0][1])  # too late for it
        teacher.learn(WEB, lambda: heard.append("again"))
        assert heard == []

    play(scene)
