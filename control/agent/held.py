"""What the maps hold, and the one way to change it."""

import threading
from collections.abc import Callable, Mapping

from control import compile as compiler
from control.agent import apply, hooks, once
from loader import abi
from loader.errors import MapFull
from loader.maps import Maps
from loader.record import Record

Attached = once.Once[hooks.Outcome]


class Held:
    """`content` is what the maps hold, by map; kept here, because reading it all takes long.

    `config_lock` guards the config record, which the admin socket writes, too.
    """

    def __init__(self, opened: Maps, config_lock: threading.Lock) -> None:
        self._maps, self._config_lock = opened, config_lock
        self.content: dict[str, dict[Record, Record]] = apply.current(opened)
        self.gone: dict[int, abi.Endpoint] = {}  # pods that went, until somebody takes note of them
        self._is_sure = True

    def make_sure(self) -> None:
        """Read it again if the last change stopped half-way, and what stopped it kept that from being read, too.

        Raises OSError, as `put`: until it is known, nothing may be built on it.
        """
        if not self._is_sure:
            self.content = apply.current(self._maps)
            self._is_sure = True

    def forget(self) -> None:
        """Have the verdicts that are remembered for open connections asked again."""
        with self._config_lock:
            apply.bump(self._maps)

    def add(self, name: str, entries: Mapping[Record, Record]) -> None:
        """Put entries beside those of one map, each of which may count at once. Raises MapFull, OSError."""
        self.make_sure()
        self._is_sure = False
        try:
            self._maps[name].put_many(entries)
        except (MapFull, OSError):
            self.make_sure()
            raise
        self.content = {**self.content, name: {**self.content[name], **entries}}
        self._is_sure = True
        self.forget()

    def put(self, want: compiler.Desired, attach: Callable[[], hooks.Outcome]) -> tuple[bool, Attached]:
        """Bring maps and hooks to what is wanted; return whether the maps changed, and what became of the hooks.

        Raises MapFull, OSError; half of it may be done then.
        """
        before = self.content["endpoints"]

        def hang() -> hooks.Outcome:
            self.gone |= apply.forgive(self._maps, before, want)
            return attach()

        hung = once.Once(hang)
        self._is_sure = False
        try:
            changed = apply.apply(self._maps, self.content, want, self.forget, hung.run)
        except (MapFull, OSError):
            self.make_sure()
            raise
        self.content = {name: dict(want[name]) for name in compiler.MAP_NAMES}
        self._is_sure = True
        if changed:
            self.forget()
        hung.run()
        return changed, hung
