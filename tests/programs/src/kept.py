"""One connection of http.client's, kept through answers of every kind: `kept.py HOST PORT ROUNDS`.

Prints as JSON how often each answer came, and how many connections it took.
"""

import collections
import hashlib
import http.client
import json
import random
import sys
from collections.abc import Iterator

BODY = random.Random(7).randbytes(300_000)


def pieces() -> Iterator[bytes]:
    """Give the body without its length: http.client sends it in chunks."""
    for at in range(0, len(BODY), 70_000):
        yield BODY[at : at + 70_000]


def main(host: str, port: str, rounds: str) -> None:
    link = http.client.HTTPConnection(host, int(port), timeout=20)
    link.connect()
    ports, answers = set(), collections.Counter[str]()

    def ask(method: str, path: str, **words: object) -> None:
        link.request(method, path, **words)  # type: ignore[arg-type]
        ports.add(link.sock.getsockname()[1])
        answer = link.getresponse()
        body = answer.read()
        if answer.status == 403:
            said = body.decode().strip()
        elif method == "HEAD":
            said = f"{len(body)} of {answer.headers['content-length']}"
        else:
            said = "echo" if body == BODY else hashlib.sha256(body).hexdigest()[:8]
        answers[f"{method} {path} {answer.status} {said}"] += 1

    for _ in range(int(rounds)):
        ask("GET", "/small")
        ask("GET", "/shut")
        ask("HEAD", "/large")
        ask("HEAD", "/shut")
        ask("POST", "/open/echo", body=BODY)
        ask("POST", "/shut", body=BODY)
        ask("POST", "/open/echo", body=pieces())
        ask("POST", "/shut", body=pieces())
        ask("GET", "/open/empty")
        ask("GET", "/open/cached", headers={"If-None-Match": '"seven"'})
        ask("GET", "/open/stream")
    print(json.dumps({"connections": len(ports), "answers": answers}))


main(*sys.argv[1:])
