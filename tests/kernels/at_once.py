"""A pytest plugin: says at once why a test has failed, and of each how long it took, with all that it needed.

A run in emulation takes hours, and may be cut.
"""

import time

import pytest

_last = time.monotonic()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    global _last
    if report.failed:
        print(f"\n{report.nodeid}, {report.when}:\n{report.longreprtext[-4000:]}", flush=True)
    if report.when == "teardown":
        before, _last = _last, time.monotonic()
        print(f" {_last - before:.0f} s", end="", flush=True)
