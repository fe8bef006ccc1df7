"""A start with kept programs loads the very same ones, without a compiler."""

from pathlib import Path

import pytest

from loader import compiler, headers, maps
from loader.errors import ProgramRejected
from tests.hosts import Node


def test_kept_programs_are_those_that_were_compiled(tmp_path: Path) -> None:
    cache, nothing = tmp_path / "programs", tmp_path / "nothing"
    tree = headers.prepare(tmp_path / "headers")
    with Node("kept") as node:
        maps.create_all(node.pins)
        tags = compiler.run(node.pins, tree, cache)
        assert compiler.run(node.pins, nothing, cache) == tags, "nothing can be compiled without headers"
        one = sorted(cache.iterdir())[0]
        one.write_bytes(one.read_bytes()[:-1])
        with pytest.raises(ProgramRejected):
            compiler.run(node.pins, nothing, cache)
        assert compiler.run(node.pins, tree, cache) == tags
        assert compiler.run(node.pins, nothing, cache) == tags, "the damaged one is kept anew"
