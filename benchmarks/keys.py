"""How many keys the everyday tasks take in the console, pressed by this script on a pseudo-terminal and checked by what came of them.

    python benchmarks/keys.py [--quick]

A real engine over a prepared home: ended runs with curves, tiny models (two as GGUF, which llama.cpp serves), two small datasets, and two
GPUs of the tests' NVML library with a running job on one of them. Every task begins in a console that was just opened. What came of it is
asked of the engine by its client (a run that was queued with the meant spec, one that is stopped, an endpoint that answers) or read on the
terminal. The peer of each task is what people type for it today, counted from real command lines: `tmux` with environment, `accelerate
launch` and `tee`; a YAML file; `tmux attach`; a tunnel and a browser; `nvidia-smi`, `ps` and `kill`; `vllm serve`, `guidellm` and `curl`.
`ratio` is the least of the peers' keystrokes over ours.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from driven_terminal import Terminal

from llmops_tui.client import Client
from llmops_tui.data.rundir import RunDir
from llmops_tui.paths import Home
from tests.catalog_files import ROWS, write_rows
from tests.nvml.driver import GIB, FakeNvml, compile_library
from tests.serving.serving_engine import free_port
from tests.serving.tiny_gguf import write_model

PROGRAM = [sys.executable, "-m", "llmops_tui"]
JOB = """
import json, math, os, time
print("pid", os.getpid(), flush=True)
with open(os.environ["LLMOPS_RUN_DIR"] + "/events.jsonl", "a", buffering=1) as events:
    for step in range(1, 100000):
        events.write(json.dumps({"t": time.time(), "type": "metric", "step": step, "values": {"train/loss": 1.5 + 2 / step}}) + "\\n")
        time.sleep(1)
"""
DOWN, ENTER, CTRL_R = "\x1b[B", "\r", "\x12"
ENDPOINT = "tiny-g"
# What is typed for the same without us, Enter included.
VLLM = "vllm serve /models/tiny-g{} --served-model-name tiny-g --port 8001 --max-model-len 2048\n"
GUIDELLM = "guidellm run --backend kind=openai_http,target=http://localhost:8001 "
GUIDELLM += """--profile '{"kind":"concurrent","streams":[1,4,8]}' --constraint kind=max_requests,count=100 """
GUIDELLM += "--data kind=synthetic_text,prompt_tokens=220,output_tokens=128\n"
BACK = "\x03" + VLLM.format("-v1") + "curl localhost:8001/v1/models\n"


@dataclass
class Box:
    """A prepared home with its engine."""

    client: Client
    environment: dict[str, str]
    nvml: FakeNvml
    root: Path
    running: str = ""


@dataclass(frozen=True)
class Task:
    """`keys`: each one key, pressed in order; before those of `after` (index -> text) that text must stand on the terminal.

    `job`: one holds a GPU; `first`: what is done by others before the console is opened; `opened`: what
    stands on it then, without another word the curve.
    """

    name: str
    bar: int
    peer: int
    keys: tuple[str, ...]
    came_of_it: Callable[[Box, Terminal, set[str]], str]
    after: dict[int, str]
    job: bool = True
    first: Callable[[Box], None] | None = None
    opened: str = "━"


def fresh_run(box: Box, before: set[str]) -> dict[str, Any]:
    """The run that was queued since; waits for it."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for run in box.client.runs(limit=20)["runs"]:
            if run["id"] not in before:
                return dict(box.client.run(run["id"]))
        time.sleep(0.1)
    return {}


def same_again(box: Box, viewer: Terminal, before: set[str]) -> str:
    run = fresh_run(box, before)
    last = box.client.run(box.client.runs(filter="id:train-recipe", sort="submitted", descending=False)["runs"][0]["id"])
    same = bool(run) and {**run["spec"], "name": ""} == {**last["spec"], "name": ""}
    return f"{run['id']} with the spec of {last['id']} is {run['state']}" if same else ""


def new_fine_tune(box: Box, viewer: Terminal, before: set[str]) -> str:
    run = fresh_run(box, before)
    if not run or run["spec"]["kind"] != "train":
        return ""
    model, data = str(run["spec"]["model"]), str(run["spec"]["dataset"]["path"])
    meant = model.startswith("tiny-a") and data.startswith("questions")
    return f"{run['id']}: {model} on {data} is {run['state']}" if meant else ""


def charts_of_the_running_run(box: Box, viewer: Terminal, before: set[str]) -> str:
    return seen(viewer, f"{box.running}", "train/loss 1.", "┬", "metrics")


def overlay_and_difference(box: Box, viewer: Terminal, before: set[str]) -> str:
    newest = [each["id"] for each in box.client.runs(filter="kind:train", limit=4)["runs"]]
    return seen(viewer, "what differs", "config: ", "learning_rate", *(f"━ {run_id[-4:]}" for run_id in newest))


def stopped_mine(box: Box, viewer: Terminal, before: set[str]) -> str:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        state = box.client.run(box.running)["state"]
        if state in ("stopping", "cancelled"):
            return f"{box.running} is {state}"
        time.sleep(0.05)
    return ""


def it_answers(box: Box, viewer: Terminal, before: set[str]) -> str:
    return until_routed(box, "v1")


def load_test_of_it(box: Box, viewer: Terminal, before: set[str]) -> str:
    run = fresh_run(box, before)
    if not run or (run["spec"]["kind"], run["spec"].get("endpoint")) != ("loadtest", ENDPOINT):
        return ""
    box.client.stop_run(run["id"], "now")
    return f"{run['id']} was queued"


def another_version(box: Box) -> None:
    """A swap that somebody made, to which there is a version before."""
    run(box, "endpoints", "swap", ENDPOINT, "tiny-h")


def back_to_the_first(box: Box, viewer: Terminal, before: set[str]) -> str:
    return until_routed(box, "v1")


def until_routed(box: Box, version: str) -> str:
    """Until the endpoint is ready and all its requests go to this version."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for each in box.client.serving.endpoints():
            weights = {one["name"]: one["share"] for one in each["versions"]}
            if each["name"] == ENDPOINT and each["state"] == "ready" and weights.get(version) == 1.0:
                return f"{ENDPOINT} answers, all of it by {version}"
        time.sleep(0.1)
    return ""


def seen(viewer: Terminal, *texts: str) -> str:
    """The texts, if each was painted since the last key."""
    deadline = time.monotonic() + 15
    while missing := [text for text in texts if text not in viewer.painted()]:
        if time.monotonic() > deadline:
            print(f"not painted: {missing} in {viewer.painted()!r}", file=sys.stderr)
            return ""
        viewer.read(0.05)
    return "on the terminal: " + ", ".join(texts)


TASKS = (
    Task("the last recipe again", 6, 121, ("n", CTRL_R), same_again, {1: "Enter here"}, job=False),
    Task(
        "a new fine-tune: model, data, fit, go", 14, 40 * 20, ("n", "N", ENTER, DOWN, ENTER, ENTER, DOWN, ENTER, CTRL_R), new_fine_tune,
        {1: "Enter here", 2: "required", 3: "tiny-a", 6: "questions", 8: "to learn from"}, job=False,
    ),
    Task("a running run's charts", 2, 18, (ENTER,), charts_of_the_running_run, {}),
    Task("4 runs over each other, and how they differ", 8, 60, ("2", "j", " ", " ", " ", " ", "o"), overlay_and_difference, {1: "0005"}),
    Task("who holds the memory; stop mine", 3, 45, ("4", "x", "n"), stopped_mine, {1: "11.0 GiB", 2: "stop now"}),
    Task(
        "serve a model, until it answers", 6, len(VLLM.format("")), ("6", "a", "g", ENTER, "y"), it_answers,
        {1: "nothing is served", 2: ENDPOINT, 4: "serve it as"}, job=False,
    ),
    Task(
        "a load test of it", 4, len(GUIDELLM), ("6", "T", CTRL_R), load_test_of_it, {1: ENDPOINT, 2: "Enter here"}, job=False,
        opened="6 Serve",
    ),
    Task(
        "back to the version before", 4, len(BACK), ("6", "U", "y"), back_to_the_first, {1: "v2", 2: "roll tiny-g back"}, job=False,
        first=another_version, opened="6 Serve",
    ),
)  # fmt: skip


def make_runs(home: Home) -> None:
    """Ended train runs that differ in their learning rate, with curves."""
    home.runs.mkdir(parents=True, exist_ok=True)
    for number in range(1, 9):
        run = RunDir(home.runs / f"train-sweep-{number:04d}")
        run.path.mkdir()
        begin = time.time() - 86_400 + 600 * number
        spec = {
            "kind": "train", "name": "sweep", "model": "tiny-a", "dataset": {"path": "questions"}, "seed": 1,
            "optim": {"learning_rate": number * 1e-4}, "lora": {"r": 8},
        }  # fmt: skip
        run.spec.write_text(json.dumps({"id": run.id, "schema": 1, "submitted_at": begin, "owner": "ada", "spec": spec}))
        entries = [("queued", 0, {}), ("running", 1, {"started_at": begin + 1}), ("succeeded", 300, {"ended_at": begin + 300})]
        lines = [{"t": begin + t, "entry": "state", "state": state, "attempt": 1, "reason": "", "data": data} for state, t, data in entries]
        run.journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
        with open(run.events, "w") as events:
            for step in range(1, 301):
                values = {"train/loss": 1.2 + number / 20 + 2 * math.exp(-step / 60)}
                events.write(json.dumps({"t": begin + step, "seq": step, "type": "metric", "step": step, "values": values}) + "\n")


def prepare(root: Path) -> Box:
    """The home, its engine, what is registered, the last recipe, and the running job with its memory."""
    nvml = FakeNvml(compile_library(root / "nvml"), root / "gpus", 2)
    state = root / "state"
    state.mkdir()
    environment = {
        **nvml.environment(), "LLMOPS_HOME": str(state), "TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8",
        "HF_HUB_CACHE": str(root / "no-cache"), "LLMOPS_MODEL_DIRS": str(root / "models"),
    }  # fmt: skip
    for name in ("NO_COLOR", "LLMOPS_ASCII"):
        environment.pop(name, None)
    (state / "config.toml").write_text(
        f"[engine]\npause_ingest_free_bytes = 0\nrefuse_start_free_bytes = 0\n[serving]\nport = {free_port()}\n"
    )
    home = Home(state, explicit=True)
    make_runs(home)
    box = Box(Client(home), environment, nvml, root)
    run(box, "doctor", "--rebuild")
    run(box, "engine", "start")
    for name in ("tiny-a", "tiny-b"):
        make = (
            f"from pathlib import Path; from tests.engine.tiny_model import save_model; save_model(Path({str(root / 'models' / name)!r}))"
        )
        subprocess.run([sys.executable, "-c", make], cwd=Path(__file__).parents[1], check=True, capture_output=True)
        run(box, "models", "import", str(root / "models" / name), "--name", name)
    for seed, name in enumerate(("tiny-h", ENDPOINT)):
        run(box, "models", "import", str(write_model(root / "models" / f"{name}.gguf", seed=seed)), "--name", name)
    for name in ("questions", "answers"):
        rows = write_rows(root / "data" / f"{name}.jsonl", [{**row, "of": name} for row in ROWS])
        run(box, "datasets", "import", str(rows), "--name", name)
    recipe = ("model=tiny-a", "dataset.path=questions", "max_steps=2", "resources.gpus=0")
    run(box, "run", "train", "--name", "recipe", *(word for pair in recipe for word in ("--set", pair)))
    job = root / "job.py"
    job.write_text(JOB)
    return box


def run(box: Box, *words: str) -> str:
    """A command of the program that must work; what it printed."""
    done = subprocess.run([*PROGRAM, *words], env=box.environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"llmops-tui {' '.join(words)}: {done.stderr or done.stdout}")
    return done.stdout.strip()


def start_job(box: Box) -> None:
    """A job on GPU 0 that holds memory there, if none does."""
    if box.running and box.client.run(box.running)["state"] == "running":
        return
    box.running = run(box, "run", "command", "--name", "mine", "--set", "resources.gpus=1", "--", sys.executable, str(box.root / "job.py"))
    deadline = time.monotonic() + 30
    while b"pid " not in (text := box.client.log(box.running).data) and time.monotonic() < deadline:
        time.sleep(0.1)
    box.nvml.set_gpu(0, memory_used=12 * GIB, processes=f"{int(text.split()[1])}:{11 * GIB}")


def stop_serving(box: Box) -> None:
    """Every endpoint, until servers and gateway are gone: the engine's end would leave them."""
    for each in box.client.serving.endpoints():
        box.client.serving.stop(each["name"])
    deadline = time.monotonic() + 60
    while box.client.serving.gateway()["state"] != "off" and time.monotonic() < deadline:
        time.sleep(0.2)


def idle(box: Box) -> None:
    """Until no train run goes on: the cursor begins on what runs."""
    deadline = time.monotonic() + 120
    while box.client.runs(filter="kind:train state:queued,starting,running")["total"] and time.monotonic() < deadline:
        time.sleep(0.2)


def do(box: Box, task: Task) -> tuple[int, str]:
    """Open the console, press the task's keys, look at what came of it: how many keys, and what (or "")."""
    (box.root / "state" / "view.json").unlink(missing_ok=True)
    idle(box)
    if task.job:
        start_job(box)
    if task.first is not None:
        task.first(box)
    before = {each["id"] for each in box.client.runs(limit=100)["runs"]}
    viewer = Terminal(PROGRAM, box.environment)
    try:
        viewer.wait(" LIVE ")
        viewer.wait(task.opened)
        viewer.read(0.5)
        for number, key in enumerate(task.keys):
            if number in task.after:
                viewer.wait(task.after[number], 30)
            viewer.press(key)
            viewer.read(0.05)
        return len(task.keys), task.came_of_it(box, viewer, before)
    finally:
        viewer.end()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the same: it takes half a minute")
    parser.parse_args()
    told: list[tuple[Task, int, str]] = []
    with tempfile.TemporaryDirectory(prefix="llmops-keys-") as directory:
        box = prepare(Path(directory))
        try:
            for task in TASKS:
                told.append((task, *do(box, task)))
        finally:
            stop_serving(box)
            if box.running:
                subprocess.run([*PROGRAM, "runs", "stop", "--now", box.running], env=box.environment, check=False, capture_output=True)
            subprocess.run([*PROGRAM, "engine", "stop"], env=box.environment, check=False, capture_output=True)
    print(f"{'keys':44}{'ours':>6}{'bar':>6}{'today':>8}   what came of it")
    for task, count, effect in told:
        print(f"{task.name:44}{count:>6}{task.bar:>6}{task.peer:>8}   {effect or 'NOTHING'}")
    holds = all(effect and count <= task.bar for task, count, effect in told)
    answer = {
        "benchmark": "keys",
        "ours": {task.name: count for task, count, _ in told},
        "peer": {task.name: task.peer for task, _, _ in told},
        "ratio": round(min(task.peer / count for task, count, _ in told), 1),
        "bar": {task.name: task.bar for task, _, _ in told},
        "holds": holds,
    }
    print(json.dumps(answer))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
