"""The node proxy's master: keeps its listening sockets and its workers, and passes on what the agent says.

The listening sockets belong to the master, so a worker that ends loses only its own clients: who calls meanwhile waits
in the socket for the next one. Without an agent all goes on as it was. A second master gets the sockets from the first
(edge/handover.py), which then has its workers end when their clients are served, and ends with them.
"""

import fcntl
import itertools
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

from control import admin_client, proxy_feed
from control.flow.summary import counted
from l7proxy.edge import facts, handover, udp
from l7proxy.edge.limits import Limits, raise_open_files
from l7proxy.mesh.posts import Posts
from l7proxy.outbox import Outbox
from l7proxy.process import Process
from loader import abi, bpf, netns
from loader.errors import AgentUnavailable

LOG = logging.getLogger("sockmesh.proxy")
_RETRY_S, _TICK_S = 0.5, 0.2
_LATE_S = 5.0  # a worker that should have ended by itself is killed
_UDP = abi.MAP_BY_NAME["doors"].max_entries // 2  # its slot, behind all those of TCP, as bpf/proxy.c has it


class Master:
    """Runs workers for one agent until `stop`, or until another master takes over."""

    def __init__(self, run_dir: Path, count: int, limits: Limits) -> None:
        self._run_dir, self._count, self._limits = run_dir, count, limits
        self._agent: socket.socket | None = None
        self._outbox: Outbox | None = None
        self._next_try = 0.0
        self._processes: list[Process] = []
        self._last = b""  # the frame that tells what is in force
        self._mesh = b""  # and the one of mTLS between nodes
        self._posts = Posts(count)
        self._turn, self._owed = 0, -1  # our own count of those, and the agent's for which it waits; -1: for none
        self._ground: proxy_feed.Ground | None = None
        self._stands = 0  # the number of the network namespace
        self._heir: socket.socket | None = None  # where the next master calls
        self._caller: socket.socket | None = None  # the next master
        self._before: list[socket.socket] = []  # where the last one listens for our GO
        self._lock: IO[bytes] | None = None  # while one takes over from another
        self._stops = 0
        self._ends_by = 0.0  # 0: it serves

    def stop(self) -> None:
        """Have `run` end when the clients are served; a second time, at once. For a signal's handler."""
        self._stops += 1

    def run(self) -> None:
        """Serve; raises AgentUnavailable where there is no agent to begin with."""
        self._connect()
        if self._agent is None:
            path = self._run_dir / proxy_feed.SOCKET
            if _answers(self._run_dir / admin_client.SOCKET):
                raise AgentUnavailable(f"{self._run_dir}: the agent there runs without --proxy: start it again with it")
            raise AgentUnavailable(f"{path}: no agent answers there: start `sockmesh agent --proxy` first")
        try:
            while not (self._ends_by and not any(each.is_running for each in self._processes)):
                self._move()
                self._look_after()
            LOG.info("ended")
        finally:
            for process in self._processes:
                process.close()
            self._posts.close()
            for sock in (self._agent, self._heir, self._caller, *self._before):
                if sock:
                    sock.close()

    # --- what comes and goes --------------------------------------------------------------------------------------

    def _move(self) -> None:
        """Take what has come and send what waits."""
        doing: dict[socket.socket, Callable[[], None]] = {
            each.feed: lambda each=each: self._pass_up(each)  # type: ignore[misc]
            for each in self._processes
            if each.feed
        }
        if self._agent:
            doing[self._agent] = self._hear_agent
        if self._caller:
            doing[self._caller] = self._hear_caller
        elif self._heir:
            doing[self._heir] = self._give
        waiting = {
            each.feed: each.flush for each in self._processes if each.feed and each.outbox and not each.outbox.is_empty
        }
        if self._agent and self._outbox and not self._outbox.is_empty:
            waiting[self._agent] = self._flush_up
        can_read, can_write, _ = select.select(list(doing), list(waiting), [], _TICK_S)
        for sock in can_read:
            if sock.fileno() >= 0:  # not closed by what was done before
                doing[sock]()
        for sock in can_write:
            if sock.fileno() >= 0:
                waiting[sock]()

    def _connect(self) -> None:
        self._next_try = time.monotonic() + _RETRY_S
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.connect(str(self._run_dir / proxy_feed.SOCKET))
        except OSError:
            sock.close()
            return
        self._agent, self._outbox = sock, Outbox(sock, proxy_feed.MOST_UP)
        self._frames = proxy_feed.Frames(proxy_feed.MOST_DOWN)

    def _hang_up(self) -> None:
        if self._agent:
            self._agent.close()
        if self._outbox and self._outbox.lost:
            LOG.warning("the agent was too slow for what the node proxy told of requests, %d times", self._outbox.lost)
        self._agent = self._outbox = None
        self._owed = -1

    def _hear_agent(self) -> None:
        assert self._agent
        try:
            data = self._agent.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._hang_up()
            return
        try:
            messages = [proxy_feed.read_down(body) for body in self._frames.feed(data)]
        except Exception as error:  # whatever a pickle of another version may raise
            LOG.warning("the agent is not understood: is it of another version than the proxy? %r", error)
            self._hang_up()
            return
        for message in messages:
            self._told(message)

    def _told(self, message: Any) -> None:
        if isinstance(message, proxy_feed.Ground):
            self._stand(message)
        elif isinstance(message, proxy_feed.Sets):
            self._owed = message.turn
            self._turn += 1  # an agent that is new begins its count anew
            self._last = proxy_feed.down(message._replace(turn=self._turn))
            for process in self._processes:
                process.tell(self._last if process.has_been_told else self._mesh + self._last)
        elif isinstance(message, proxy_feed.Mesh):
            self._mesh = proxy_feed.down(message)
            for process in self._processes:
                process.tell(self._mesh if process.has_been_told else self._mesh + self._last)
            if not self._ends_by and self._posts.want(message.address, message.port):
                self._deal_posts()
        elif isinstance(message, proxy_feed.InForce):
            for process in self._processes:
                if process.pid == message.worker:
                    process.tell(proxy_feed.down(message), instead=False)

    def _pass_up(self, process: Process) -> None:
        if bodies := process.hear():
            self._say_up(b"".join(proxy_feed.LENGTH.pack(len(body)) + body for body in bodies))

    def _say_up(self, frame: bytes) -> None:
        if self._outbox:
            try:
                self._outbox.put(frame)
            except OSError:
                self._hang_up()

    def _flush_up(self) -> None:
        if self._outbox:
            try:
                self._outbox.flush()
            except OSError:
                self._hang_up()

    # --- where it stands, and who stands there before and after it ----------------------------------------------------

    def _stand(self, ground: proxy_feed.Ground) -> None:
        """Make the doors, or get them from the master before this one."""
        number = os.stat(ground.netns).st_ino
        if number == self._stands or self._ends_by:
            return
        for process in self._processes:  # the namespace that they are in leads nowhere any more
            process.close()
        self._ground, self._stands = ground, number
        # The kernel goes by the cgroup in which a listening socket was made, also for those that it accepts.
        (Path(ground.cgroup) / "cgroup.procs").write_text("0")
        if self._lock is None:
            self._lock = (self._run_dir / "proxy.lock").open("ab")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        doors: list[socket.socket] = []
        for before, given in handover.take(self._run_dir, number):
            self._before.append(before)
            doors += (sock for sock in given if facts.is_door(sock))
            self._posts.adopt(sock for sock in given if not facts.is_door(sock))
        while len(doors) < self._count:
            doors.append(netns.inside(ground.netns, facts.listener))
        if self._heir:
            self._heir.close()
        self._heir = handover.listen(self._run_dir)
        self._processes = [
            Process(ground.netns, doors[first :: self._count], netns.inside(ground.netns, udp.door), self._limits)
            for first in range(self._count)
        ]
        self._open(doors, self._processes[0].datagrams)
        self._deal_posts()

    def _deal_posts(self) -> None:
        """Share out among the workers where other nodes call."""
        for first, process in enumerate(self._processes):
            process.listen(self._posts.sockets[first :: self._count])

    def _open(self, doors: Sequence[socket.socket] = (), datagrams: socket.socket | None = None) -> None:
        """Have the kernel lead clients of TCP to these in turn, those of UDP to all at that place; or none.

        Datagrams need no handing over: who has taken one answers it.
        """
        assert self._ground
        table = bpf.get(self._ground.doors)
        in_turn = itertools.islice(itertools.cycle(doors), _UDP) if doors else [None] * _UDP
        try:
            for slot, door in enumerate([*in_turn, datagrams]):
                key = slot.to_bytes(4, sys.byteorder)
                if door:
                    bpf.update(table, key, door.fileno().to_bytes(8, sys.byteorder))
                else:
                    bpf.delete(table, key)
        finally:
            os.close(table)

    def _give(self) -> None:
        assert self._heir
        doors = [door for process in self._processes for door in process.doors]
        self._caller = handover.give(self._heir, doors + self._posts.sockets, self._stands, is_all=True)

    def _hear_caller(self) -> None:
        assert self._caller
        is_served = handover.said_go(self._caller)
        self._caller.close()
        self._caller = None
        if is_served and self._heir:
            LOG.info("another node proxy takes clients now: this one ends with those it has")
            self._heir.close()
            self._heir = None
            self._drain()

    # --- what is looked after -------------------------------------------------------------------------------------

    def _look_after(self) -> None:
        """Start workers that are not there, end those that are stuck, and all when it is time to."""
        if self._stops and not self._ends_by:
            if self._ground and self._lock is None:
                self._open()  # who calls now calls again, until another proxy is there
            LOG.info(
                "stops: takes no more clients, and ends when those that are here are served, or after %g s",
                self._limits.drain_s,
            )
            self._drain()
        if self._agent is None and time.monotonic() >= self._next_try:
            self._connect()
        if not self._ends_by and self._posts.look_after():
            self._deal_posts()
        for process in self._processes:
            status = process.ended()
            if status is not None and not self._ends_by:
                LOG.warning("a worker of the node proxy ended with status %s: another one takes its place", status)
            if self._ends_by:
                if self._stops > 1 or time.monotonic() > self._ends_by:
                    process.kill()
            elif process.is_stuck:
                LOG.warning("a worker of the node proxy has not been heard of for too long: it is killed")
                process.kill()
            elif self._last and process.may_start and self._heir:
                process.start(self._heir, self._mesh + self._last)
        running = [each for each in self._processes if each.is_running]
        serves = running and not self._ends_by and all(each.turn >= 0 for each in self._processes)
        if self._lock and serves:
            handover.announce(self._run_dir)
            handover.go(self._before)
            self._before.clear()
            self._lock.close()
            self._lock = None
            LOG.info("serves with %s, in %s: %s", counted(len(running), "worker"), self._run_dir, self._whom())
        if self._owed >= 0 and all(each.turn >= self._turn for each in running):
            self._say_up(proxy_feed.up("workers", len(running)))
            self._say_up(proxy_feed.up("turn", self._owed))
            self._owed = -1

    def _whom(self) -> str:
        """Say who may come; of the doors nobody can call one by an address."""
        led = "what policy leads here"
        return f"{led}, and other nodes' proxies at {self._posts.at}" if self._posts.at else led

    def _drain(self) -> None:
        if not self._ends_by:
            self._ends_by = time.monotonic() + self._limits.drain_s + _LATE_S
            for process in self._processes:
                process.drain()
            self._posts.close()  # the workers have theirs for a moment more


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            sock.connect(str(path))
        except OSError:
            return False
    return True


def serve(run_dir: Path, count: int, limits: Limits) -> None:
    """Run the node proxy until SIGTERM or SIGINT."""
    master = Master(run_dir, count, limits.for_one_of(count, raise_open_files()))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: master.stop())
    master.run()
