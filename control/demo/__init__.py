"""The demo: a node of its own, four pods, real programs; what the mesh does with them, shown and measured."""

from control.demo.run import run

__all__ = ["run"]
