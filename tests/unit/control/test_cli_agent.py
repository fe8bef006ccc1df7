"""What `sockmesh agent` takes, and what it writes to standard error at each level."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from control.agent import options
from control.cli import main
from loader.errors import ConfigInvalid

SPEAK = """
import logging, sys
from control.cli.agent import _log_at
_log_at(sys.argv[1])
for name in ("sockmesh.agent", "pyroute2.netlink", "asyncio", "watchfiles.main"):
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logging.getLogger(name).log(level, name)
"""


@pytest.mark.parametrize(
    ("level", "ours", "each"), [("DEBUG", 4, 2), ("INFO", 3, 2), ("WARNING", 2, 2), ("ERROR", 1, 1)]
)
def test_only_our_own_words_go_below_a_warning(level: str, ours: int, each: int) -> None:
    said = subprocess.run([sys.executable, "-c", SPEAK, level], capture_output=True, text=True, check=True, timeout=30)
    spoke = [line.split()[-1] for line in said.stderr.splitlines()]
    assert {name: spoke.count(name) for name in spoke} == {
        "sockmesh.agent": ours, "pyroute2.netlink": each, "asyncio": each, "watchfiles.main": each,
    }  # fmt: skip


SERVE = """
import pathlib, resource, sys
from control.agent import options, serve
from loader.errors import ConfigInvalid
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
try:
    serve.serve(options.Options(config_dir=pathlib.Path(sys.argv[1])))
except ConfigInvalid:
    print(resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard))
"""


def test_the_agent_takes_as_many_files_as_it_may(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    said = subprocess.run(
        [sys.executable, "-c", SERVE, nowhere], capture_output=True, text=True, check=True, timeout=30
    )
    assert said.stdout == "True\n"


@pytest.mark.parametrize(
    ("words", "bounds"),
    [
        (("agent", "--config", ".", "--flow-interval"), "0.1<=x<=1000000000"),
        (("demo", "--seconds"), "0.1<=x<=60"),
        (("bpf", "stats", "list", "--interval"), "0<=x<=3600"),
    ],
)
@pytest.mark.parametrize("given", ["nan", "inf", "-inf"])
def test_a_time_is_a_finite_number(words: tuple[str, ...], bounds: str, given: str) -> None:
    result = CliRunner().invoke(main.cli, [*words, given])
    assert result.exit_code == 2
    assert result.stderr.endswith(f"Invalid value for {shown(words[-1])}: {given} is not in the range {bounds}.\n")


def shown(option: str) -> str:
    return "'-i' / '--interval'" if option == "--interval" else f"'{option}'"


@pytest.mark.parametrize("cidr", ["10.0.0.0", "fd00::", "10.0.0.0/99"])
def test_a_range_of_the_cluster_has_a_length(tmp_path: Path, cidr: str) -> None:
    given = options.Options(config_dir=tmp_path, cluster_cidrs=("10.0.0.0/8", "fd00::/8", cidr))
    with pytest.raises(ConfigInvalid, match=f"--cluster-cidr {cidr}: not an address range "):
        given.check()


def test_a_directory_that_is_not_there_is_not_called_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigInvalid, match="nowhere: there is no such directory: make it first"):
        options.Options(config_dir=tmp_path / "nowhere").check()
    with pytest.raises(ConfigInvalid, match="file: not a directory"):
        options.Options(config_dir=tmp_path / "file").check()
    for target in ("", str(tmp_path)):  # else all records are lost, to be found out later
        with pytest.raises(ConfigInvalid, match="a file, or - for standard output"):
            options.Options(config_dir=tmp_path, flow_log=("-", target)).check()


CA = ("--ca-cert", "x", "--ca-key", "x", "--ca-root", "x")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--mtls", "strict", "--ca-dir", "x"), "--mtls strict: needs --proxy"),
        (("--mtls", "permissive", "--proxy"), "--mtls permissive: nobody signs certificates: give --ca-dir DIR"),
        (("--mtls", "strict", "--proxy", "--ca-cert", "x"), "--ca-key and --ca-root are missing"),
        (("--ca-key", "x"), "--ca-cert and --ca-root are missing"),
        (("--ca-dir", "x", *CA), "--ca-dir and --ca-cert: give one of them"),
        (("--trust-domain", "Upper"), "--trust-domain Upper: the trust domain is not"),
    ],
)
def test_what_mtls_needs_is_said_before_anything_is_touched(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "control.cli.main", "agent", "--config", str(tmp_path), "--run-dir",
         str(tmp_path / "run"), "--pin-dir", str(tmp_path / "pins"), *words],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert said.returncode == 1 and said.stderr.startswith(f"sockmesh: {told}"), said.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [("--leaf-lifetime", "59"), ("--leaf-lifetime", "86401"), ("--mtls-port", "0")])
def test_figures_of_mtls_have_bounds(words: tuple[str, ...]) -> None:
    assert CliRunner().invoke(main.cli, ["agent", "--config", ".", *words]).exit_code == 2


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"otlp_endpoint": "collector:4318"}, "--otlp-endpoint collector:4318: not a URL of OTLP over HTTP"),
        ({"otlp_endpoint": "http://a:hush@c"}, "--otlp-endpoint http://***@c: a password would be seen"),
        ({"otlp_endpoint": "http://c", "proxy": False}, "--otlp-endpoint http://c: needs --proxy"),
        ({"trace_ratio": 0.5}, "--trace-ratio 0.5: needs --otlp-endpoint"),
    ],
)
def test_what_tracing_needs_is_said(tmp_path: Path, given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigInvalid) as raised:
        options.Options(config_dir=tmp_path, **{"proxy": True, **given}).check()
    assert str(raised.value).startswith(told)


@pytest.mark.parametrize("ratio", ["-0.1", "1.1", "nan"])
def test_a_ratio_is_from_0_to_1(ratio: str) -> None:
    assert CliRunner().invoke(main.cli, ["agent", "--config", ".", "--trace-ratio", ratio]).exit_code == 2


def test_who_lacks_opentelemetry_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    given = options.Options(config_dir=tmp_path, proxy=True, otlp_endpoint="http://c")
    with pytest.raises(
        ConfigInvalid, match=r"opentelemetry is not installed \(in the checkout: .venv/bin/pip install "
    ):
        given.check()
