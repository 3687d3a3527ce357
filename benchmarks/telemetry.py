"""What our telemetry costs a training job: CPU seconds of everything it does for each step besides training, at 5 records a second;
and how soon a request is obeyed.

    python benchmarks/telemetry.py [--quick] [--records N]

A step's books are what run_trainer.py and the callback keep: one record of 14 metrics, a heartbeat, a line of output, the process's
memory read, a look at the control file. They are made as fast as possible in this process, and their CPU seconds (user and system, all
threads) counted; at 5 records a second that share of a core is the cost, whatever a step takes. The fdatasync of each second is measured by
itself and added: at full speed it would vanish among the records.
The peer is the fastest tracker there is here: a TensorBoard writer where tensorboard is installed, logging the same 14 values; else
none. The bar: 1 %.

Then a real job (a new model of 1M parameters, thousands of short steps) is asked at random moments, from outside, for another learning rate
or a checkpoint. Counted are the steps that end between a request's last byte and the answer's, itself included, and whether the very next
step has the rate, and that step the checkpoint. The bar: one step. There is no peer: a plain trainer cannot be asked.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from llmops_tui.data.rundir import append_line
from llmops_tui.engine.jobs.control import ControlChannel
from llmops_tui.engine.jobs.event_writer import EventWriter
from llmops_tui.engine.jobs.reporting import Reporter
from llmops_tui.specs.train import TrainSpec

BAR = 0.01
STEPS_BAR = 1
RECORDS_A_SECOND = 5
RATE = 1e-5
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
        obeyed = control_requests(Path(scratch) / "train-asked-0001", 12 if options.quick else 60)
    share, beside = ours * RECORDS_A_SECOND + sync, None if peer is None else peer / records * RECORDS_A_SECOND
    print(f"{'':28}{'CPU a record':>16}{'of a core at 5/s':>20}")
    print(f"{'ours':28}{ours * 1e6:13.1f} µs{share:20.4%}")
    if beside is not None:
        print(f"{'TensorBoard writer':28}{beside / RECORDS_A_SECOND * 1e6:13.1f} µs{beside:20.4%}")
    waited = [request.steps for request in obeyed]
    late = [request for request in obeyed if request.steps > STEPS_BAR or not request.done]
    spread = f"{waited.count(0)} within the step, {waited.count(1)} by the end of the next one"
    print(f"{len(obeyed)} requests of a running job: {spread}, {len(late)} later or not at all")
    verdict = {
        "benchmark": "telemetry",
        "ours": round(share, 6),
        "peer": None if beside is None else round(beside, 6),
        "ratio": None if not beside else round(share / beside, 3),
        "bar": BAR,
        "holds": share <= BAR and not late,
        "unit": "share of a core at 5 records a second",
        "records": records,
        "control": {"requests": len(obeyed), "most_steps": max(waited), "bar": STEPS_BAR},
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


@dataclass(frozen=True)
class Obeyed:
    """One request: how many steps ended before it was answered, and whether what it asked for was there then."""

    steps: int
    done: bool


def control_requests(run: Path, count: int) -> list[Obeyed]:
    """A job as the engine starts it, asked `count` times while it trains; ended when all is answered."""
    run.mkdir()
    rows = run / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": f"{number} is followed by {number + 1}"}) + "\n" for number in range(256)))
    spec = TrainSpec.model_validate(
        {
            "method": "pretrain", "scratch": {"preset": "nano", "vocabulary": 300, "context": 64}, "max_length": 64, "micro_batch": 1,
            "dataset": {"path": str(rows), "eval_fraction": 0}, "max_steps": 1_000_000, "threads": 1, "resources": {"gpus": 0},
            "optim": {"schedule": "constant", "warmup_fraction": 0, "learning_rate": RATE},
        }
    )  # fmt: skip
    prepared = {"model": {"path": ""}, "dataset": {"path": str(rows), "format": "text"}}
    (run / "spec.json").write_text(json.dumps({"id": run.name, "spec": spec.model_dump(), "prepared": prepared}))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "LLMOPS_RUN_DIR": str(run)}
    environment |= {"LLMOPS_ATTEMPT": "1", "LLMOPS_CONTROL_BYTES": "0"}
    chance, events, asked = random.Random(0), run / "events.jsonl", []
    with open(run / "output.log", "wb") as output:
        job = subprocess.Popen(
            [sys.executable, "-m", "llmops_tui.engine.jobs.train"], stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        try:
            wait_for(lambda: events.exists() and events.read_text().count('"train/loss"') >= 5, job, run)
            for number in range(count):
                time.sleep(chance.uniform(0.02, 0.2))
                scale = 2.0 + number
                request = {"command": "checkpoint"} if number % 4 == 3 else {"command": "set", "learning_rate_scale": scale}
                append_line(run / "control.jsonl", {"t": time.time(), "by": 0, "who": "benchmark", "number": number, **request})
                asked.append((time.time(), scale))  # from here on it can be read
                wait_for(lambda: events.read_text().count('"type":"control"') == len(asked), job, run)
            append_line(run / "control.jsonl", {"t": time.time(), "command": "stop", "by": 0, "who": "benchmark"})
            wait_for(lambda: job.poll() is not None, job, run)
        finally:
            if job.poll() is None:
                job.kill()
            job.wait()
    return list(told(asked, [json.loads(line) for line in events.read_text().splitlines()]))


def told(asked: list[tuple[float, float]], events: list[dict[str, Any]]) -> Iterator[Obeyed]:
    """What the job's events say of each request, in the order they were made."""
    steps = {event["step"]: event for event in events if event["type"] == "metric" and "train/loss" in event["values"]}
    saved = {event["step"] for event in events if event["type"] == "checkpoint"}
    answers = [event for event in events if event["type"] == "control" and event["command"] != "stop"]
    for (moment, scale), answer in zip(asked, answers, strict=True):
        at = answer["step"]
        between = sum(moment < steps[step]["t"] <= answer["t"] for step in steps)
        if answer["command"] == "checkpoint":
            yield Obeyed(between, at in saved)
        else:
            yield Obeyed(
                between, at + 1 in steps and math.isclose(steps[at + 1]["values"]["train/learning_rate"], RATE * scale, rel_tol=1e-6)
            )


def wait_for(happened: Callable[[], bool], job: subprocess.Popen[bytes], run: Path) -> None:
    """Look until it has; a job that ends meanwhile without, or takes minutes, ends this with its output."""
    deadline = time.monotonic() + 300
    while not happened():
        if (job.poll() is not None and not happened()) or time.monotonic() > deadline:
            raise SystemExit(f"the job did not do as expected:\n{(run / 'output.log').read_text(errors='replace')[-3000:]}")
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main())
