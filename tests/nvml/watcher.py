"""A process that runs the real GpuMonitor and answers questions about it: a word a line in, a line of JSON out.

Started as `python -m tests.nvml.watcher SETTINGS RUNS HOME`, with LD_LIBRARY_PATH naming the library that plays NVML.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from llmops_tui.engine.gpus import GpuMonitor
from llmops_tui.specs.settings import Settings


def main() -> None:
    settings = Settings.model_validate_json(sys.argv[1])
    runs: dict[str, str] = json.loads(sys.argv[2])
    monitor = GpuMonitor(settings, lambda pid: runs.get(str(pid)), home=Path(sys.argv[3]))
    monitor.start()
    answers = {
        "ready": lambda: monitor.ready,
        "snapshot": monitor.snapshot,
        "events": monitor.drain_events,
        "warnings": lambda: monitor.warnings,
        "driver": lambda: monitor.driver,
        "pynvml": lambda: "pynvml" in sys.modules,
        "stop": monitor.stop,
    }
    for line in sys.stdin:
        print(json.dumps(answers[line.strip()]()), flush=True)


main()
