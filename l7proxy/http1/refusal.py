"""Answers of our own, in the server's place."""

import functools

from l7proxy.refusal import Refusal

_FORBIDDEN = "Access denied"


_REASONS = {
    Refusal.BAD_REQUEST: "Bad Request",
    Refusal.FORBIDDEN: "Forbidden",
    Refusal.TOO_SLOW: "Request Timeout",
    Refusal.TOO_LARGE: "Request Header Fields Too Large",
    Refusal.BAD_GATEWAY: "Bad Gateway",
    Refusal.UNAVAILABLE: "Service Unavailable",
    Refusal.TIMEOUT: "Gateway Timeout",
}


@functools.lru_cache(maxsize=128)
def message(refusal: Refusal, why: str, is_head: bool, last: bool) -> bytes:
    """Return the answer, without its body to a HEAD; why policy forbids something is for the record alone."""
    text = f"{_FORBIDDEN if refusal is Refusal.FORBIDDEN else why}\r\n"
    close = "connection: close\r\n" if last else ""
    return (
        f"HTTP/1.1 {int(refusal)} {_REASONS[refusal]}\r\ncontent-length: {len(text.encode())}\r\n"
        f"content-type: text/plain\r\n{close}\r\n{'' if is_head else text}"
    ).encode()
