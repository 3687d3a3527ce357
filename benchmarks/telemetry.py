"""What our telemetry costs a training job: CPU seconds of everything it does for each step besides training, at 5 records a second.

    python benchmarks/telemetry.py [--quick] [--records N]

A step's books are what run_trainer.py and the callback keep: one record of 14 metrics, a heartbeat, a line of output, the process's
memory read, a look at the control file. They are made as fast as possible in this process, and their CPU seconds (user and system, all
threads) counted; at 5 records a second that share of a core is the cost, whatever a step takes. The fdatasync of each second is measured by
itself and added: at full speed it would vanish among the records.
The peer is the fastest tracker there is here: a TensorBoard writer where tensorboard is installed, logging the same 14 values; else
none. The bar: 1 %.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from llmops_tui.engine.jobs.control import ControlChannel
from llmops_tui.engine.jobs.event_writer import EventWriter
from llmops_tui.engine.jobs.reporting import Reporter

BAR = 0.01
RECORDS_A_SECOND = 5
SYNCS = 100
NAMES = (
    "train/loss", "train/grad_norm", "train/learning_rate", "train/epoch", "train/tokens", "perf/tokens_per_second",
    "perf/step_seconds", "perf/data_wait_fraction", "perf/padding_fraction", "host/rss_bytes", "gpu/0/memory_bytes",
    "train/reward_margin", "train/reward_accuracy", "perf/mfu",
)  # fmt: skip


def main() -> int:
    """Exit code 0 only where the claim holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="1,000 records")
    parser.add_argument("--records", type=int, default=10_000, help="how many steps' books are kept")
    options = parser.parse_args()
    records = 1000 if options.quick else options.records
    with tempfile.TemporaryDirectory(prefix="telemetry.") as scratch:
        ours = measured(lambda: our_books(Path(scratch), records)) / records
        sync = measured(lambda: syncs(Path(scratch))) / SYNCS
        peer = tensorboard_books(Path(scratch) / "tensorboard", records)
    share, beside = ours * RECORDS_A_SECOND + sync, None if peer is None else peer / records * RECORDS_A_SECOND
    print(f"{'':28}{'CPU a record':>16}{'of a core at 5/s':>20}")
    print(f"{'ours':28}{ours * 1e6:13.1f} µs{share:20.4%}")
    if beside is not None:
        print(f"{'TensorBoard writer':28}{beside / RECORDS_A_SECOND * 1e6:13.1f} µs{beside:20.4%}")
    verdict = {
        "benchmark": "telemetry",
        "ours": round(share, 6),
        "peer": None if beside is None else round(beside, 6),
        "ratio": None if not beside else round(share / beside, 3),
        "bar": BAR,
        "holds": share <= BAR,
        "unit": "share of a core at 5 records a second",
        "records": records,
        "cpu_seconds_a_record": ours,
        "cpu_seconds_a_sync": sync,
    }
    print(json.dumps(verdict))
    return 0 if verdict["holds"] else 1


def measured(work: Callable[[], None]) -> float:
    """CPU seconds of this process, user and system, over all threads."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def our_books(directory: Path, records: int) -> None:
    """As a step keeps them (run_trainer.log, callback.on_step_end); what is printed goes to a file, as a job's output does."""
    (directory / "control.jsonl").touch()
    reporter = Reporter(EventWriter(directory), ControlChannel(directory))
    process = psutil.Process()
    with open(directory / "stdout.log", "w") as log, contextlib.redirect_stdout(log):
        for step in range(1, records + 1):
            reporter.beat(step, records, may_stop=False)
            reporter.control.poll()
            reporter.control.agree()
            reporter.control.take()
            values = dict.fromkeys(NAMES, 1.234567 + step)
            values["host/rss_bytes"] = process.memory_info().rss
            reporter.beat(step, records, may_stop=False, at_once=True)
            reporter.events.metrics(step, values)
            print(f"step {step}/{records}  loss {1 / step:.4f}  123 tokens/s  learning rate {1e-4:.2e}  gradient {1.0:.2f}", flush=True)
    reporter.events.close()


def syncs(directory: Path) -> None:
    """What the events file pays once a second: a record made durable."""
    descriptor = os.open(directory / "synced", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for _ in range(SYNCS):
        os.write(descriptor, b"x" * 400)
        os.fdatasync(descriptor)
    os.close(descriptor)


def tensorboard_books(directory: Path, records: int) -> float | None:
    """The same values by torch's SummaryWriter; None where tensorboard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        print("tensorboard is not installed: no peer", file=sys.stderr)
        return None
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with contextlib.redirect_stderr(io.StringIO()):
        from torch.utils.tensorboard import SummaryWriter

    def write() -> None:
        writer = SummaryWriter(str(directory))
        for step in range(1, records + 1):
            for name in NAMES:
                writer.add_scalar(name, 1.234567 + step, step)
        writer.close()

    return measured(write)


if __name__ == "__main__":
    sys.exit(main())
