"""Work that may take minutes, in threads of its own: quick requests never queue behind it, and nobody behind another user's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

# Hashing and parsing keep a processor busy each; what is done as another user is done in processes, and may hang in a file of theirs.
_OWN_AT_ONCE = 4
_OTHERS_AT_ONCE = 2
_MOST_THREADS = 64
T = TypeVar("T")
P = ParamSpec("P")


class SlowWork:
    """Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_MOST_THREADS, "slow-request")
        self._turns: dict[int, asyncio.Semaphore] = {}

    async def run(self, uid: int, work: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
        """Do it in a thread, after what the same user asked for before where that is too much at once. Raises what it raises."""
        at_once = _OWN_AT_ONCE if uid in (0, os.geteuid()) else _OTHERS_AT_ONCE
        async with self._turns.setdefault(uid, asyncio.Semaphore(at_once)):
            return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*args, **options))

    def close(self) -> None:
        """Begin nothing more; what is under way is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
