"""Which headers' values are secrets: of them a record says that they were there, and no more."""

import re

REDACTED = "HUBBLE_REDACTED"  # Hubble's word
_NAMES = frozenset(("authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"))
# With or without what stands between the words ("apikey", "x-api-key"); rather one too many than one too few.
_LIKE = re.compile(
    r"auth|cookie|token|secret|passw|pwd|credential|session|api[-_.]?key|access[-_.]?key|private|signature|jwt|csrf|xsrf"
)


def is_secret(name: str) -> bool:
    """Tell by its name whether a header's value must stay out of records.

    >>> is_secret("Cookie"), is_secret("X-Auth-Request-User"), is_secret("x-request-id")
    (True, True, False)
    """
    lower = name.lower()
    return lower in _NAMES or _LIKE.search(lower) is not None
