"""What the demo reads out of wrk's and redis-benchmark's words, and how it draws it."""

import dataclasses
import re
import signal
from pathlib import Path

import pytest

from control.demo import hosts, measure, stage
from control.demo.run import Figures, _guarded, _interruptible
from control.demo.steps import Call, Cut
from loader.errors import PackageMissing

ROOT = Path(__file__).resolve().parents[3]
WRK = """\
Running 1s test @ http://10.244.0.10/small
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   284.33us  175.58us   3.64ms   91.23%
    Req/Sec    57.96k     4.67k   65.71k    80.00%
  Latency Distribution
     50%  250.00us
     75%  324.00us
     90%  413.00us
     99%    1.02ms
  57633 requests in 1.00s, 17.81MB read
Requests/sec:  57602.06
Transfer/sec:     17.80MB
"""
REDIS = """\
"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms","p99_latency_ms","max_latency_ms"
"GET","57720.10","0.260","0.040","0.135","0.700","1.215","4.447"
"""


def test_wrk() -> None:
    assert measure.parse_wrk(WRK) == measure.Sample(57602.06, 17.80 * (1 << 20), 0.00025, 0.00102)


def test_redis_benchmark() -> None:
    assert measure.parse_redis(REDIS) == measure.Sample(57720.10, None, 0.000135, 0.001215)


@pytest.mark.parametrize("output", ["", "unable to connect", WRK + "  Non-2xx or 3xx responses: 5\n"])
def test_output_without_good_figures_is_refused(output: str) -> None:
    with pytest.raises(measure.NoFigures):
        measure.parse_wrk(output)


@pytest.mark.parametrize("output", ["", "Could not connect", REDIS.splitlines()[0], REDIS.replace("57720.10", "?")])
def test_redis_output_without_figures_is_refused(output: str) -> None:
    with pytest.raises(measure.NoFigures):
        measure.parse_redis(output)


def test_without_a_checkout_it_says_so_in_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hosts, "ROOT", tmp_path)
    with pytest.raises(PackageMissing, match="only a source checkout has: clone the repository and run `make demo`"):
        hosts.require()


def test_medians_are_taken_figure_by_figure() -> None:
    samples = [measure.Sample(1, 30, 5, 9), measure.Sample(2, 10, 6, 7), measure.Sample(9, 20, 4, 8)]
    assert measure.median(samples) == measure.Sample(2, 20, 5, 8)
    assert measure.median([measure.Sample(n, None, n, n) for n in (1, 2, 9)]) == measure.Sample(2, None, 2, 2)


COMPARISON = measure.Comparison("GET", measure.Sample(100, None, 2, 4), measure.Sample(250, None, 1, 2), 0.99)


def test_bars_have_one_scale() -> None:
    tcp, short_cut = stage.picture(COMPARISON)
    assert (tcp.count("░"), short_cut.count("█")) == (18, 44)
    assert tcp.startswith("GET ") and tcp.endswith("100/s") and short_cut.endswith("250/s  2.50x")


def test_a_work_that_came_to_nothing_has_a_bar_and_no_ratio() -> None:
    nothing = measure.Comparison("GET", measure.Sample(0, 0, 0, 0), measure.Sample(0, 0, 0, 0), 0.0)
    assert nothing.ratio == 0.0
    assert stage.picture(nothing)[0].count("░") == 1


def test_what_is_not_as_it_must_be_is_named() -> None:
    figures = Figures(
        calls=(Call("guest", "curl to web", False, False, "HTTP 200", 0.1), Call("a", "b", True, True, "", 0.1)),
        cuts=(Cut("curl", True, "still open after 5 s", 5.0, False),),
        left_behind=("namespace x",),
        comparisons=(COMPARISON,),
    )
    assert figures.unexpected() == (
        "guest: curl to web: HTTP 200",
        "curl: still open after 5 s",
        "left behind: namespace x",
    )
    found = figures.to_json()
    assert found["comparisons"][0]["tcp"]["bytes_per_s"] is None  # nothing was measured, which is not none at all
    assert found["comparisons"][0]["ratio"] == 2.5 and len(found["unexpected"]) == 3


def test_a_longer_tail_is_not_left_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    shorter = COMPARISON
    longer = dataclasses.replace(COMPARISON, short_cut=measure.Sample(250, None, 1, 5))
    stage.Terminal().comparisons((shorter,))
    assert stage.TAIL not in capsys.readouterr().out
    stage.Terminal().comparisons((longer,))
    lines = capsys.readouterr().out.splitlines()
    name, page = re.findall(r'"(.*)" in (\S+)$', lines[2])[0]
    assert f"- **{name} " in (ROOT / page).read_text() and lines[3] == ""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interruption_that_a_finalizer_swallows_is_not_lost() -> None:
    """Seen once: Ctrl-C came while Python freed a generator, and what the agent's end broke was told as a failure."""

    class Freed:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    def step() -> None:
        thing = Freed()
        del thing
        raise OSError("the agent is gone")

    figures = Figures()
    with _interruptible(figures):
        assert _guarded(figures, step) == ""
    assert (figures.interrupted, figures.by_signal) == (True, signal.SIGINT)
