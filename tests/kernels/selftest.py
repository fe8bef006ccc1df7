"""What another kernel makes of the mesh: features, compile and load, self-test (`-m tests.kernels.selftest`).

Exit status 0: every feature is there, every program loads and every case of the self-test is ok.
"""

import argparse
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

from loader import abi, features, selftest
from loader.errors import ProgramRejected
from loader.mesh import Mesh

PINS = Path("/sys/fs/bpf/sockmesh-test-kernels")


def show_features() -> bool:
    found = features.probe()
    for feature in found:
        state = {True: "ok", False: "MISSING", None: "not tried"}[feature.ok]
        print(f"feature {feature.name}: {state}: {feature.detail} {feature.remedy}".rstrip(), flush=True)
    return all(feature.ok for feature in found)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kernels.selftest", description=__doc__)
    parser.add_argument("--timeout", type=float, default=150, help="seconds for the self-test (150)")
    args = parser.parse_args()
    good = show_features()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        try:
            mesh = Mesh.load(PINS, Path(directory))
        except ProgramRejected as error:
            print(f"{error}\n{error.log[-6000:]}")
            return 1
        try:
            print(
                f"{platform.release()}: programs compiled and loaded in {time.monotonic() - started:.1f} s", flush=True
            )
            if mesh.loaded.acceleration:
                print(f"no short cut: {mesh.loaded.acceleration}")
                good = False
            mesh.maps.config.put_at(0, abi.Config(1, 16, 30, 3600, 10, 30, acceleration=0, self_test=0))
            started = time.monotonic()
            results = selftest.run(mesh, args.timeout)
            for case, result in results.items():
                print(f"self-test {case}: {result}")
            print(f"self-test: {time.monotonic() - started:.1f} s", flush=True)
            good = good and set(results.values()) == {"ok"}
        finally:
            mesh.close()
            shutil.rmtree(PINS)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
