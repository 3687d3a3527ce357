"""Of several ranks the first one reads what is asked, and all obey after the same step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

_RANK = """
import json, os, signal, sys
from pathlib import Path
import torch.distributed as dist
from llmops_tui.data.rundir import append_line
from llmops_tui.engine.jobs.control import ControlChannel

run, rank = Path(sys.argv[1]), int(sys.argv[2])
channel = ControlChannel(run)
dist.init_process_group("gloo", init_method=f"file://{run}/store", rank=rank, world_size=2)
heard = []
for step in range(1, 11):
    if rank == 0 and step == 3:
        append_line(run / "control.jsonl", {"t": 9e9, "command": "evaluate", "who": "ada"})
    if rank == 0 and step == 5:
        append_line(run / "control.jsonl", {"t": 9e9, "command": "pause", "mode": "hold"})
        append_line(run / "control.jsonl", {"t": 9e9, "command": "resume"})
    if rank == 1 and step == 6:
        os.kill(os.getpid(), signal.SIGTERM)
    if rank == 0 and step == 8:
        append_line(run / "control.jsonl", {"t": 9e9, "command": "stop"})
    channel.raise_if_stopped()  # of several ranks none leaves the others in the middle of a step
    channel.poll()
    channel.agree()
    heard += [(step, request.command) for request in channel.take()]
    channel.wait_while_held(lambda: None)
    if channel.stop:
        heard.append((step, channel.ending.command))
        break
print(json.dumps(heard))
"""


def test_two_ranks_hear_the_same_after_the_same_step(tmp_path: Path) -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": "lo", "LLMOPS_CONTROL_BYTES": "0"}
    ranks = [
        subprocess.Popen([sys.executable, "-c", _RANK, str(tmp_path), str(rank)], stdout=subprocess.PIPE, env=environment, text=True)
        for rank in range(2)
    ]
    try:
        heard = [json.loads(rank.communicate(timeout=120)[0]) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert heard[0] == [[3, "evaluate"], [5, "pause"], [5, "resume"], [8, "stop"]]
    assert heard[1] == heard[0], "also where the second one alone was sent SIGTERM"
