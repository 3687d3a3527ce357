"""Slow work of one user never keeps another waiting."""

from __future__ import annotations

import asyncio
import os
import threading

from llmops_tui.engine.slow_work import SlowWork

_HOSTILE, _OTHER = os.geteuid() + 1, os.geteuid() + 2


async def test_one_who_waits_for_ever_keeps_nobody_else_waiting() -> None:
    work, gate = SlowWork(), threading.Event()
    began: list[int] = []

    def hang(number: int) -> int:
        began.append(number)
        gate.wait(60)
        return number

    try:
        stuck = [asyncio.create_task(work.run(_HOSTILE, hang, number)) for number in range(200)]
        assert await asyncio.wait_for(work.run(_OTHER, len, "abc"), 30) == 3
        assert await asyncio.wait_for(work.run(os.geteuid(), len, "abc"), 30) == 3
        assert len(began) <= 2
        gate.set()
        assert await asyncio.wait_for(asyncio.gather(*stuck), 60) == list(range(200))
    finally:
        gate.set()
        work.close()
