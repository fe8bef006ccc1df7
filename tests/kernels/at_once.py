"""A pytest plugin: says at once why a test has failed, for a run in emulation takes hours and may be cut."""

import pytest


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        print(f"\n{report.nodeid}, {report.when}:\n{report.longreprtext[-4000:]}", flush=True)
