"""What ten thousand runs cost the viewer: opening the table, a keystroke of the filter, and eight long curves over each other.

A real engine holds 10,000 runs (directories made here in the formats of data/rundir.py; eight of them with 100,000 points); the viewer
runs on a pseudo-terminal of 140 × 40 cells and is driven by keys. The CPU is the viewer's own, less what it takes at rest; the opening
is the least of three fresh viewers. Beside it, in the same run: Textual's DataTable with the same 10,000 rows and columns, opened by
adding them, and filtered by clearing it and adding the rows that match. `ratio` is the peer's opening over ours.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from driven_terminal import Terminal

from llmops_tui.data.rundir import RunDir
from llmops_tui.paths import Home

RUNS, LONG_RUNS, POINTS = 10_000, 8, 100_000
OPEN_BAR, KEY_BAR, OVERLAY_BAR = 0.150, 0.030, 0.300
_STATES = ("succeeded", "succeeded", "failed", "cancelled")
_FILTER = "state:failed cfg.learning_rate>=1e-4"

PEER = """
import sys
from textual.app import App
from textual.widgets import DataTable, Input
COLUMNS = ("run", "state", "tags", "progress", "submitted", "time", "loss")
STATES = ("succeeded", "succeeded", "failed", "cancelled")
RUNS = [(f"train-sweep-{n:05d}", STATES[n % 4], "sweep" if n % 5 == 0 else "", "", "11-07 06:25", "7m39s", f"{1 + n % 97 / 100:.4f}")
        for n in range(int(sys.argv[1]), 0, -1)]
class Peer(App):
    BINDINGS = [("2", "open", "")]
    def compose(self):
        yield Input()
        yield DataTable()
    def on_mount(self):
        table = self.query_one(DataTable)
        table.add_columns(*COLUMNS)
        table.focus()
        self.title = "ready"
    def action_open(self):
        self.fill("")
        self.query_one(Input).focus()
    def on_input_changed(self, event):
        self.fill(event.value)
    def fill(self, text):
        table = self.query_one(DataTable)
        table.clear()
        table.add_rows(row for row in RUNS if any(text in cell for cell in row))
Peer().run()
"""


def make_runs(home: Home, numbers: Sequence[int], count: int) -> None:
    """Directories of ended runs, as an engine leaves them; the newest few of all `count` with long curves."""
    home.runs.mkdir(parents=True, exist_ok=True)
    now = time.time()
    for number in numbers:
        run = RunDir(home.runs / f"train-sweep-{number:05d}")
        run.path.mkdir()
        begin = now - 60.0 * (count - number) - 3600
        spec = {
            "kind": "train", "name": "sweep", "model": "smollm2", "dataset": {"path": f"data/{number % 7}.jsonl"}, "seed": number % 5,
            "optim": {"learning_rate": (5e-5, 1e-4, 2e-4)[number % 3]}, "lora": {"r": (8, 16)[number % 2]},
            "tags": ["long"] if number > count - LONG_RUNS else ["sweep"] if number % 5 == 0 else [],
        }  # fmt: skip
        run.spec.write_text(json.dumps({"id": run.id, "schema": 1, "submitted_at": begin, "owner": "ada", "spec": spec}))
        state = _STATES[number % 4]
        entries = [("queued", begin, {}), ("running", begin + 1, {"started_at": begin + 1}), (state, begin + 60, {"ended_at": begin + 60})]
        run.journal.write_text(
            "".join(
                json.dumps({"t": t, "entry": "state", "state": name, "attempt": 1, "reason": "", "data": data}) + "\n"
                for name, t, data in entries
            )
        )
        if number <= count - LONG_RUNS:
            continue
        with open(run.events, "w", buffering=1 << 20) as events:
            for step in range(1, POINTS + 1):
                loss = 1.2 + number % 97 / 100 + 2 * math.exp(-step / 20_000) + 0.05 * math.sin(step * 0.7)
                events.write(
                    f'{{"t":{begin + step / 2000:.3f},"seq":{step},"type":"metric","step":{step},"values":{{"train/loss":{loss:.5f}}}}}\n'
                )


def measure_opening(viewer: Terminal, count: int) -> float:
    """CPU seconds from the key to the table on the screen, in a viewer that just started."""
    viewer.wait(" LIVE ")
    viewer.quiet_cpu(2.0)
    rest = viewer.rest(4.0)
    before, begin = viewer.cpu_seconds(), time.monotonic()
    viewer.press("2")
    viewer.wait(f"train-sweep-{count:05d}")
    after = viewer.quiet_cpu(1.0)
    return after - before - rest * (time.monotonic() - begin)


def measure_ours(environment: dict[str, str], keystrokes: str, count: int) -> dict[str, float]:
    """CPU seconds of the viewer for opening, a keystroke and the overlay."""
    program = [sys.executable, "-m", "llmops_tui"]
    openings = []
    for _ in range(2):
        viewer = Terminal(program, environment)
        try:
            openings.append(measure_opening(viewer, count))
        finally:
            viewer.end()
            (Path(environment["LLMOPS_HOME"]) / "view.json").unlink(missing_ok=True)  # it would open where it was
    viewer = Terminal(program, environment)
    try:
        opened = min(*openings, measure_opening(viewer, count))
        rest = viewer.rest(6.0)
        viewer.press("/")
        viewer.read(1.0)
        before, begin = viewer.cpu_seconds(), time.monotonic()
        for key in keystrokes:
            viewer.press(key)
            viewer.read(0.4)
        viewer.read(1.0)
        key_cost = (viewer.cpu_seconds() - before - rest * (time.monotonic() - begin)) / len(keystrokes)
        viewer.press("\x1b")
        viewer.read(1.0)
        viewer.press("\x1b")
        viewer.read(1.0)
        viewer.press("g" + " " * LONG_RUNS)
        viewer.wait(f"{LONG_RUNS} marked")
        viewer.quiet_cpu(1.0)
        before, begin = viewer.cpu_seconds(), time.monotonic()
        viewer.press("o")
        viewer.wait("config: ")
        after = viewer.quiet_cpu(1.0)
        overlay = after - before - rest * (time.monotonic() - begin)
        return {"open": opened, "keystroke": key_cost, "overlay": overlay, "rest": rest}
    finally:
        viewer.end()


def measure_peer(environment: dict[str, str], keystrokes: str, count: int) -> dict[str, float]:
    """CPU seconds of a DataTable for the same."""
    peer = Terminal([sys.executable, "-c", PEER, str(count)], environment)
    try:
        peer.wait("submitted")
        peer.quiet_cpu(2.0)
        before = peer.cpu_seconds()
        peer.press("2")
        peer.wait(f"train-sweep-{count:05d}")
        opened = peer.quiet_cpu(2.0) - before
        before = peer.cpu_seconds()
        for key in keystrokes:
            peer.press(key)
            peer.quiet_cpu(1.0)
        return {"open": opened, "keystroke": (peer.cpu_seconds() - before) / len(keystrokes)}
    finally:
        peer.end()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the peer's filter with fewer keystrokes")
    quick = parser.parse_args().quick
    program = [sys.executable, "-m", "llmops_tui"]
    with tempfile.TemporaryDirectory(prefix="llmops-tables-") as root:
        home = Home(Path(root), explicit=True)
        (home.root / "config.toml").write_text('[gpus]\nprobe = "none"\n')
        environment = {**os.environ, "LLMOPS_HOME": root, "TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8"}
        environment.pop("NO_COLOR", None)
        begin = time.monotonic()
        # The database is made of the long runs alone: the engine reads the others from their directories.
        make_runs(home, range(RUNS - LONG_RUNS + 1, RUNS + 1), RUNS)
        subprocess.run([*program, "doctor", "--rebuild"], env=environment, check=True, capture_output=True)
        make_runs(home, range(1, RUNS - LONG_RUNS + 1), RUNS)
        subprocess.run([*program, "engine", "start"], env=environment, check=True, stdout=subprocess.DEVNULL)
        print(
            f"{RUNS} runs made, {LONG_RUNS} of them with {POINTS} points, and an engine over them: {time.monotonic() - begin:.0f} s",
            file=sys.stderr,
        )
        try:
            ours = measure_ours(environment, _FILTER, RUNS)
        finally:
            subprocess.run([*program, "engine", "stop"], env=environment, check=False, capture_output=True)
        peer = measure_peer(environment, "fail" if quick else "failed 7m", RUNS)
    print(f"{'CPU of the viewer':44}{'ours':>10}{'DataTable':>12}{'ratio':>9}{'bar':>10}")
    for name, bar in (("open", OPEN_BAR), ("keystroke", KEY_BAR)):
        label = f"open {RUNS} runs" if name == "open" else "a keystroke of the filter"
        ratio = peer[name] / max(ours[name], 1e-3)
        print(f"{label:44}{1000 * ours[name]:>7.0f} ms{1000 * peer[name]:>9.0f} ms{ratio:>8.0f}x{1000 * bar:>7.0f} ms")
    label = f"overlay of {LONG_RUNS} runs x {POINTS} points"
    print(f"{label:44}{1000 * ours['overlay']:>7.0f} ms{'':>21}{1000 * OVERLAY_BAR:>7.0f} ms")
    holds = ours["open"] <= OPEN_BAR and ours["keystroke"] <= KEY_BAR and ours["overlay"] <= OVERLAY_BAR
    answer = {
        "benchmark": "tables",
        "ours": {f"{name}_cpu_seconds": round(ours[name], 4) for name in ("open", "keystroke", "overlay")},
        "peer": {f"datatable_{name}_cpu_seconds": round(peer[name], 3) for name in ("open", "keystroke")},
        "ratio": round(peer["open"] / max(ours["open"], 1e-3), 1),
        "bar": {"open_cpu_seconds": OPEN_BAR, "keystroke_cpu_seconds": KEY_BAR, "overlay_cpu_seconds": OVERLAY_BAR},
        "holds": holds,
    }
    print(json.dumps(answer))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
