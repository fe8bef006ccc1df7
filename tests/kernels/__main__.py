"""`python -m tests.kernels [--timeout S] [command ...]`: run a command (else the kernel tests) on Debian's kernel.

virtme-ng boots the kernel that scripts/setup.sh unpacked, under qemu without KVM, with this machine's files as its
root. Its exit status is the command's; output is shown as it comes.
"""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KERNELS = ROOT / "tests/.build/kernels"
DEFAULT = [
    "python", "-m", "pytest", "-p", "no:cacheprovider", "-p", "tests.kernels.at_once", "--timeout=900",
    "--ignore=tests/kernel/test_kernels.py", "tests/kernel",
]  # fmt: skip


def boot_argv(release: str, out: Path, cpus: int, memory: str) -> list[str]:
    """Return the call that boots `release` and runs what `out`/command says; only `out` is shared for writing."""
    image = KERNELS / release / "boot" / f"vmlinuz-{release}"
    guest = ["sh", str(ROOT / "tests/kernels/guest.sh"), str(out), str(ROOT)]
    return [
        str(ROOT / ".venv/bin/vng"),
        "--disable-kvm",
        f"--run={image}",
        f"--cpus={cpus}",
        f"--memory={memory}",
        f"--rwdir={out}",
        f"--overlay-rwdir={ROOT}",
        f"--exec={shlex.join(guest)}",
        "--verbose",
    ]


def run(release: str, command: list[str], timeout: float, cpus: int = 2, memory: str = "4G") -> int:
    """Boot, run, show the output; return the command's status, 125 if the guest never gave one."""
    out = KERNELS / f"out-{os.getpid()}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / "command").write_text(
        shlex.join(command) + "\n"
    )  # the kernel's command line takes 2 kB, or it does not boot
    log, status = out / "guest.log", out / "status"
    env = {**os.environ, "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}"}
    started, shown = time.monotonic(), 0
    print(f"booting {release} in software emulation: half a minute", flush=True)
    with (out / "console.log").open("wb") as console:
        machine = subprocess.Popen(
            boot_argv(release, out, cpus, memory),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            env=env,
            start_new_session=True,
        )
        try:
            while machine.poll() is None and time.monotonic() - started < timeout:
                shown = _show(log, shown)
                time.sleep(0.5)
            if machine.poll() is None:
                print(f"not done after {timeout:.0f} s: stopped", flush=True)
        finally:
            _stop(machine)
    _show(log, shown)
    if not status.exists():
        lines = (out / "console.log").read_text(errors="replace").splitlines()
        print("the emulated machine gave no answer; its console ended with:", *lines[-15:], sep="\n  ")
        return 125
    answer = int(status.read_text())
    print(f"{release}: status {answer} after {time.monotonic() - started:.0f} s, boot included", flush=True)
    shutil.rmtree(out)
    return answer


def _show(log: Path, offset: int) -> int:
    if log.exists():
        with log.open("rb") as file:
            file.seek(offset)
            text = file.read()
        sys.stdout.buffer.write(text)
        sys.stdout.flush()
        offset += len(text)
    return offset


def _stop(machine: subprocess.Popen[bytes]) -> None:
    """End the emulator and what it started: the session is its own, so the group holds nothing else."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if machine.poll() is not None:
            return
        os.killpg(machine.pid, number)
        try:
            machine.wait(timeout=5)
        except subprocess.TimeoutExpired:
            continue


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kernels", description=__doc__)
    parser.add_argument("--timeout", type=float, default=5400, help="seconds for boot and command (5400)")
    parser.add_argument("--smoke", action="store_true", help="only: does a BPF program compile and load there?")
    parser.add_argument("--quick", action="store_true", help="only: features, all programs, self-test")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    current = KERNELS / "current"
    if not current.exists():
        print("no kernel is unpacked yet: run `make setup` as root", file=sys.stderr)
        return 1
    command = [word for word in args.command if word != "--"] or DEFAULT
    if args.smoke:
        command = ["python", "-m", "tests.kernels.smoke"]
    if args.quick:
        command = ["python", "-m", "tests.kernels.selftest"]
    return run(current.read_text().strip(), command, args.timeout)


if __name__ == "__main__":
    sys.exit(main())
