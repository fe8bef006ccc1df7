"""How much of the kernel's programs its verifier has to walk: it refuses what takes a million instructions."""

import os
import struct

from loader import bpf, programs
from tests.kernel.street import Street

_WALKED = 216  # of struct bpf_prog_info: verified_insns, from kernel 5.16 on
_MOST = 500_000


def test_no_program_is_near_to_what_the_verifier_refuses(whole_street: Street) -> None:
    walked = {}
    for spec in programs.PROGRAMS:
        fd = bpf.get(whole_street.node.pins / "progs" / spec.function)
        (walked[spec.function],) = struct.unpack_from("=I", bpf.info(fd, 232), _WALKED)
        os.close(fd)
    assert min(walked.values()) > 0 and max(walked.values()) < _MOST, walked
