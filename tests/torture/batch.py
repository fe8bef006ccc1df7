"""One batch: so many connections between two pods at once, and what each end said about each of them."""

import contextlib
import dataclasses
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.hosts import Pod
from tests.hosts.wait import wait_until

Json = dict[str, Any]
CLIENT_BASE = 10000  # as in stream.c
PORTS = 3  # that a server listens on
LARGEST = 50000


@dataclasses.dataclass(frozen=True)
class Batch:
    """`count` connections from `first` on, `parallel` at a time. No two batches may share a port within a minute."""

    program: Path
    seed: int
    first: int
    count: int
    port: int
    parallel: int = 64

    def plans(self) -> dict[int, Json]:
        """Return what each connection does, by number."""
        command = [str(self.program), "plan", str(self.seed), str(self.first), str(self.count)]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return {plan["id"]: plan for plan in map(json.loads, out.splitlines())}


@dataclasses.dataclass(frozen=True)
class Result:
    """What both ends of one connection said; an end that said nothing is None."""

    id: int
    client: Json | None
    server: Json | None

    def ends(self) -> Iterator[str]:
        for end in (self.client, self.server):
            yield "nothing" if end is None else end["result"]

    def told(self) -> list[Json]:
        """Return what the ends said that did not end well."""
        return [end for end in (self.client, self.server) if end is not None and end["result"] != "ok"]

    @property
    def ok(self) -> bool:
        return set(self.ends()) == {"ok"}

    @property
    def by_design(self) -> bool:
        """The mesh reset it for splicing after plain reads: only programs that do so say `reset`."""
        return "reset" in self.ends() and set(self.ends()) <= {"ok", "reset"}


def run(batch: Batch, client: Pod, server: Pod, directory: Path, timeout: float = 600) -> list[Result]:
    """Run a batch to its end."""
    assert batch.count <= LARGEST
    common = [str(batch.seed), str(batch.first)]
    said = {side: directory / f"{batch.port}-{side}.json" for side in ("client", "server")}
    with said["client"].open("wb") as to_client, said["server"].open("wb") as to_server:
        serving = server.popen([str(batch.program), "server", str(batch.port), *common], stdout=to_server)
        try:
            for number in range(PORTS):
                server.wait_listening(batch.port + number)
            words = [str(batch.port), *common, str(batch.count), str(batch.parallel)]
            calling = client.popen([str(batch.program), "client", server.ip, server.ip6, *words], stdout=to_client)
            calling.wait(timeout)
            with contextlib.suppress(TimeoutError):  # an end that says nothing is found below
                wait_until(lambda: said["server"].read_bytes().count(b"\n") >= batch.count, "the servers' words", 8)
        finally:
            serving.terminate()  # and with it every process that still serves
            serving.wait()
    ends = {side: {line["id"]: line for line in map(json.loads, path.open())} for side, path in said.items()}
    ids = range(batch.first, batch.first + batch.count)
    return [Result(each, ends["client"].get(each), ends["server"].get(each)) for each in ids]
