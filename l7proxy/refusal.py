"""What the proxy answers in the server's place, in any version of HTTP."""

import enum


class Refusal(enum.IntEnum):
    """By their status."""

    BAD_REQUEST = 400
    FORBIDDEN = 403
    TOO_SLOW = 408
    TOO_LARGE = 431
    BAD_GATEWAY = 502
    UNAVAILABLE = 503
    TIMEOUT = 504
