"""`python -m loader.selftest PIN_DIR`: try the short cut of a loaded mesh; a JSON line per case on standard output.

Exits 0 when every case is ok, 1 when one is not, 2 when nothing could be tried.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

from loader.errors import MeshError
from loader.selftest import cases
from loader.selftest.ground import Ground, die_with_parent
from loader.selftest.pump import Deadline, Failed


def _say(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _try(ground: Ground, name: str, seconds: float) -> bool:
    started = time.monotonic()
    try:
        ground.forget_caught()  # by one case, which is no reason to keep the next off the short cut
        cases.CASES[name](ground, Deadline(seconds))
        result = "ok"
    except Failed as error:
        result = str(error)
    except OSError as error:
        result = f"{error.strerror or error} (errno {error.errno})"
    _say({"case": name, "result": result, "seconds": round(time.monotonic() - started, 3)})
    return result == "ok"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m loader.selftest", description=__doc__)
    parser.add_argument("pin_dir", type=Path)
    parser.add_argument("--case-timeout", type=float, default=10, help="seconds for one case (10)")
    parser.add_argument("--case", action="append", choices=cases.NAMES, help="only this one; may be given again")
    args = parser.parse_args()
    die_with_parent()
    ground = None
    try:
        ground = Ground(args.pin_dir)
        ground.open()
        good = [_try(ground, name, args.case_timeout) for name in args.case or cases.NAMES]
    except (MeshError, OSError) as error:
        _say({"error": str(error)})
        return 2
    finally:
        if ground:
            ground.close()
    return 0 if all(good) else 1


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # a thread that hangs in a system call must not hold the process
