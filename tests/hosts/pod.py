"""A pod: a network namespace, a veth into its node's bridge and a cgroup, in which real programs run."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loader.errors import PackageMissing
from tests.hosts import cgroups, namespaces
from tests.hosts.wait import PATIENCE, wait_until

# The child joins the cgroup, then the namespace, then becomes the program: the Popen's pid is the program's pid, and no
# Python runs between fork and exec, which would not be safe in a threaded parent.
_LAUNCH = 'echo $$ >"$1/cgroup.procs" && net="$2" && shift 2 && exec nsenter --net="$net" -- "$@"'


@dataclass
class Host:
    """A place where programs run: a network namespace and a cgroup. `netns` and `cgroup` are paths."""

    name: str
    netns: str
    cgroup: str
    _children: list[subprocess.Popen[Any]] = field(default_factory=list, repr=False)

    def popen(self, argv: Sequence[str], user: str | None = None, **kw: Any) -> subprocess.Popen[Any]:
        """Start a program inside; its pid is the program's own. It is killed with the host at the latest."""
        command = [str(word) for word in argv]
        if shutil.which(command[0]) is None:
            raise PackageMissing(f"{command[0]} is not installed")
        if user is not None:
            command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", *command]
        child = subprocess.Popen(["sh", "-c", _LAUNCH, "launch", self.cgroup, self.netns, *command], **kw)
        self._children.append(child)
        return child

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float = 30.0,
        check: bool = True,
        user: str | None = None,
        input: str | None = None,
        **kw: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside to its end; its output is in the answer. Raises AssertionError with it on failure."""
        child = self.popen(
            argv,
            user=user,
            stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **kw,
        )
        try:
            out, err = child.communicate(input, timeout=timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            out, err = child.communicate()
            raise AssertionError(f"{self.name}: {list(argv)} did not end in {timeout:g} s: {out}{err}") from None
        finally:
            self._children.remove(child)
        if check and child.returncode != 0:
            raise AssertionError(f"{self.name}: {list(argv)} ended with {child.returncode}: {out}{err}")
        return subprocess.CompletedProcess(list(argv), child.returncode, out, err)

    def python(self, code: str, **kw: Any) -> subprocess.CompletedProcess[str]:
        """Run Python code inside, in an interpreter of its own."""
        return self.run([sys.executable, "-c", code], **kw)

    def listening(self, port: int, proto: str = "tcp") -> bool:
        """Return whether a program in this network namespace listens on the port."""
        return namespaces.listening(self.netns, port, proto)

    def wait_listening(self, port: int, proto: str = "tcp", timeout: float = 10.0) -> None:
        """Return once a program in this network namespace listens on the port; TimeoutError names both."""
        wait_until(lambda: self.listening(port, proto), f"{self.name} listens on {proto} port {port}", timeout)

    def pids(self) -> list[int]:
        """Return the processes inside."""
        return cgroups.pids(Path(self.cgroup))

    def kill_all(self) -> None:
        """Kill every program inside and reap those started here."""
        for child in self._children:
            if child.poll() is None:
                child.kill()  # one just started may not have joined the cgroup yet
        cgroups.kill(Path(self.cgroup))
        for child in self._children:
            child.wait(timeout=10 * PATIENCE)
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream is not None:
                    stream.close()
        self._children.clear()


@dataclass
class Pod(Host):
    """A pod of a node. `interface` is the host end of its veth, in the node's network namespace."""

    namespace: str = "default"
    labels: dict[str, str] = field(default_factory=dict)
    accelerate: bool = True
    service_account: str = "default"
    ip: str = ""
    ip6: str = ""
    interface: str = ""

    def workload_yaml(self) -> dict[str, Any]:
        """Return the sockmesh.io/v1 Workload that enrols this pod, ready for yaml.safe_dump or json.dumps."""
        return {
            "apiVersion": "sockmesh.io/v1",
            "kind": "Workload",
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": dict(self.labels)},
            "spec": {
                "ips": [self.ip, self.ip6],
                "netns": self.netns,
                "interface": self.interface,
                "cgroup": self.cgroup,
                "serviceAccount": self.service_account,
                "acceleration": "on" if self.accelerate else "off",
            },
        }
