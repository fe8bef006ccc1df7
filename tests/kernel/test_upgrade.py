"""What another version left: its programs go, and its maps are used only if their records are laid out as ours."""

import subprocess
import sys

import pytest

from tests.hosts import Mesh, Node
from tests.hosts.wait import PATIENCE

pytestmark = pytest.mark.kernel


def test_another_versions_leftovers() -> None:
    with Node("upgrade") as node:
        node.pod("web")
        with Mesh(node) as mesh:
            mesh.kill()
            links = node.pins / "links"
            link = next(path for path in links.iterdir() if path.name.endswith("-sockops"))
            # A hook of the same kind under a name that this version does not know.
            link.rename(link.with_name(link.name.removesuffix("sockops") + "sock_hook"))
            mesh.start()
            assert not list(links.glob("*sock_hook")) and link.exists()
            mesh.kill()
            (mesh.run_dir / "layout.sha256").write_text("another")
            command = [sys.executable, "-m", "control.cli.main", "agent", "--config", str(mesh.config)]
            command += ["--run-dir", str(mesh.run_dir), "--pin-dir", str(node.pins), "--metrics", ""]
            refused = subprocess.run(command, capture_output=True, text=True, timeout=60 * PATIENCE)
            assert refused.returncode == 1
            assert "made by another version" in refused.stderr and "uninstall --pins" in refused.stderr
            assert len(refused.stderr.strip().splitlines()) == 1
            assert link.exists(), "what is in force stays in force"
