"""Replay one connection alone: python -m tests.torture PROGRAM SEED ID [TIMES [plain]].

PROGRAM is what the failure named. `plain` runs no mesh: what goes wrong then is TCP's, or the torture's own, fault.
"""

import contextlib
import json
import sys

from tests.hosts import Mesh, Node
from tests.torture import batch, build


def main(program: str, seed: str, first: str, times: str = "20", how: str = "") -> int:
    """Run the connection again and again; return 1 if it ever went wrong."""
    wrong = 0
    with Node("replay") as node:
        client, server = node.pod("client"), node.pod("server")
        path = build.named(program, node.directory)
        with contextlib.nullcontext() if how == "plain" else Mesh(node):
            for number in range(int(times)):
                one = batch.Batch(path, int(seed), int(first), 1, 1000 + number * batch.PORTS % 8000)
                if number == 0:
                    print(json.dumps(one.plans()[int(first)], indent=1))
                (result,) = batch.run(one, client, server, node.directory)
                if not result.ok:
                    wrong += 1
                    print(json.dumps(result.client), json.dumps(result.server), sep="\n", flush=True)
    print(f"{wrong} of {times} times not ok")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
