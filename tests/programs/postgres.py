"""postgresql from its own binaries, in a cluster made for the test, as user postgres."""

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from loader.errors import PackageMissing
from tests.hosts import Pod
from tests.programs import running

PORT = 5432
_SETTINGS = {"fsync": "off", "unix_socket_directories": "", "shared_buffers": "32MB", "max_wal_size": "2GB"}


def _binary(name: str) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    if not found:
        raise PackageMissing(f"{name} is not installed (package postgresql)")
    return str(found[-1])


@contextlib.contextmanager
def cluster(pod: Pod) -> Iterator[None]:
    """Make a cluster that takes every caller for who he says he is, and run it."""
    directory = Path(tempfile.mkdtemp(prefix="sockmesh-postgres-"))
    try:
        shutil.chown(directory, "postgres", "postgres")
        data = directory / "data"
        options = ["-A", "trust", "--no-sync", "--locale=C", "--encoding=UTF8"]
        pod.run([_binary("initdb"), "-D", str(data), *options], user="postgres", cwd=directory, timeout=60)
        with (data / "pg_hba.conf").open("a") as file:
            file.write("host all all all trust\n")
        argv = [_binary("postgres"), "-D", data, "-p", str(PORT), "-c", f"listen_addresses={pod.ip}"]
        for name, value in _SETTINGS.items():
            argv += ["-c", f"{name}={value}"]
        log = directory / "log"
        with running.running(pod, argv, PORT, log, user="postgres", cwd=directory):
            yield
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def psql(pod: Pod, address: str, *statements: str, stdin: bytes | None = None) -> bytes:
    """Run statements in one session and return what they print, as bytes."""
    argv = [_binary("psql"), "-h", address, "-p", str(PORT), "-U", "postgres", "-X", "-q", "-A", "-t"]
    argv += ["-v", "ON_ERROR_STOP=1"]
    for statement in statements:
        argv += ["-c", statement]
    child = pod.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        out, err = child.communicate(stdin, timeout=90)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        raise AssertionError(f"psql did not end: {statements}") from None
    assert child.returncode == 0, f"psql {statements}: {err.decode()}"
    return bytes(out)


def pgbench(pod: Pod, address: str, *args: str) -> str:
    """Run pgbench with these options and return its report."""
    argv = [_binary("pgbench"), "-h", address, "-p", str(PORT), "-U", "postgres", *args, "postgres"]
    return pod.run(argv, timeout=120).stdout
