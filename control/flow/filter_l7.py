"""The filters that ask for requests; a flow that is none passes no such filter."""

import re
from collections.abc import Callable, Mapping
from typing import Any

Flow = Mapping[str, Any]
Predicate = Callable[[Flow], bool]
_STATUS = re.compile(r"[1-5](\d\d|\d?\+)")


def _http(flow: Flow) -> Mapping[str, Any]:
    found = (flow.get("l7") or {}).get("http")
    return found if isinstance(found, Mapping) else {}


def _http_method(value: str) -> Predicate:
    wanted = value.upper()  # whatever the case, as in Hubble
    return lambda flow: str(_http(flow).get("method", "")).upper() == wanted


def _http_status(value: str) -> Predicate:
    if not _STATUS.fullmatch(value):
        raise ValueError(f'"{value}" is not a status (404) or the start of one with a + (4+, 50+)')
    if value.endswith("+"):
        return lambda flow: str(_http(flow).get("code", "")).startswith(value[:-1])
    return lambda flow: _http(flow).get("code") == int(value)


def _pattern(value: str) -> re.Pattern[str]:
    try:
        return re.compile(value)
    except re.error as error:
        raise ValueError(f'"{value}" is not a regular expression: {error}') from None


def _url(flow: Flow) -> str | None:
    url = _http(flow).get("url")
    return url if isinstance(url, str) else None


def _http_url(value: str) -> Predicate:
    pattern = _pattern(value)
    return lambda flow: (url := _url(flow)) is not None and bool(pattern.search(url))


def _http_path(value: str) -> Predicate:
    pattern = _pattern(value)
    return lambda flow: (url := _url(flow)) is not None and bool(pattern.search(_path(url)))


def _path(url: str) -> str:
    """Return a URL's path: no authority, no query."""
    path = re.sub(r"^[a-z][a-z0-9+.-]*://[^/?#]*", "", url, flags=re.IGNORECASE)
    return re.split(r"[?#]", path, maxsplit=1)[0]


def _http_header(value: str) -> Predicate:
    name, colon, wanted = value.partition(":")
    if not name or not colon:
        raise ValueError(f'"{value}" is not a header (name:value)')

    def holds(flow: Flow) -> bool:
        headers = _http(flow).get("headers") or ()
        return any(str(h.get("key", "")).lower() == name.lower() and h.get("value", "") == wanted for h in headers)

    return holds


def _trace_id(value: str) -> Predicate:
    return lambda flow: ((flow.get("trace_context") or {}).get("parent") or {}).get("trace_id") == value


FLAGS: dict[str, Callable[[str], Predicate]] = {
    "http-method": _http_method, "http-path": _http_path, "http-status": _http_status, "http-url": _http_url,
    "http-header": _http_header, "trace-id": _trace_id,
}  # fmt: skip
