"""Random keys, pastes, clicks and sizes on a real terminal over a real engine with a running job: the console must outlive all of it.

    python benchmarks/random_keys.py [--minutes 10] [--seed 7] [--quick]

The keys are those of the key table and others, as bytes of an xterm; every minute the engine is stopped and started. A console that is
left by its own keys is opened again. It fails with the first console that ends otherwise or prints a traceback, and says the last keys.
There is no peer: `ratio` is 0.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from driven_terminal import Terminal

from llmops_tui.keys import KEYS
from tests.tui.random_acts import GARBAGE, TINY, character_of

PROGRAM = [sys.executable, "-m", "llmops_tui"]
JOB = """
import json, os, time
with open(os.environ["LLMOPS_RUN_DIR"] + "/events.jsonl", "a", buffering=1) as events:
    for step in range(1, 100000):
        events.write(json.dumps({"t": time.time(), "type": "metric", "step": step, "values": {"train/loss": 1.5 + 2 / step}}) + "\\n")
        print("step", step, "\\x1b[31mred\\x1b[0m", flush=True)
        time.sleep(1)
"""
_BYTES = {
    "enter": "\r", "escape": "\x1b", "tab": "\t", "shift+tab": "\x1b[Z", "backspace": "\x7f", "delete": "\x1b[3~", "space": " ",
    "up": "\x1b[A", "down": "\x1b[B", "right": "\x1b[C", "left": "\x1b[D", "home": "\x1b[H", "end": "\x1b[F", "pageup": "\x1b[5~",
    "pagedown": "\x1b[6~", "f1": "\x1bOP", "f5": "\x1b[15~", "shift+up": "\x1b[1;2A", "shift+down": "\x1b[1;2B", "shift+right": "\x1b[1;2C",
    "shift+left": "\x1b[1;2D", "ctrl+right": "\x1b[1;5C", "ctrl+left": "\x1b[1;5D",
}  # fmt: skip
_PAGES = ("1", "2", "3", "4", "5", "enter", "n", "colon", "slash", "t", "question_mark", "p", "o", "escape", "escape", "escape")
_ENGINE_SECONDS = 60.0
_FAREWELL = "brings you back"


def bytes_of(name: str) -> str:
    """What an xterm sends for a key; "" for one it has nothing for."""
    if name in _BYTES:
        return _BYTES[name]
    if name.startswith("ctrl+") and len(name) == 6:
        return chr(ord(name[5]) & 31)
    return character_of(name) or ""


class Cat:
    """Walks over the keyboard of one console; `done` counts what it did, `trail` has the newest of it."""

    def __init__(self, dice: random.Random, environment: dict[str, str], directory: str) -> None:
        self.dice = dice
        self.done: Counter[str] = Counter()
        self.trail: list[str] = []
        self.size = (140, 40)
        self._environment = environment
        self._program = ["sh", "-c", f"cd {directory} && exec {' '.join(PROGRAM)}"]
        self._names = [name for key in KEYS for name in key.keys] + ["Z", "é", "~", "%", "ctrl+x"]
        self.viewer = self._open()

    def _open(self) -> Terminal:
        viewer = Terminal(self._program, self._environment)
        viewer.wait("llmops-tui", 60)
        self.done["consoles"] += 1
        return viewer

    def step(self) -> str:
        """Do one thing and look whether the console is still there; what is wrong, or ""."""
        what = self.dice.random()
        if what < 0.87:
            name = self.dice.choice(self._names if what < 0.6 else _PAGES)
            self._send("keys", name, bytes_of(name))
        elif what < 0.90:
            text = self.dice.choice(GARBAGE)
            self._send("pastes", f"paste {text[:20]!r}", f"\x1b[200~{text}\x1b[201~")
        elif what < 0.96:
            x, y, button = (
                self.dice.randrange(1, self.size[0] + 1),
                self.dice.randrange(1, self.size[1] + 1),
                self.dice.choice((0, 0, 64, 65)),
            )
            self._send("clicks", f"button {button} at {x},{y}", f"\x1b[<{button};{x};{y}M" + (f"\x1b[<0;{x};{y}m" if not button else ""))
        else:
            self.size = self.dice.choice((*TINY, (140, 40), (80, 24), (self.dice.randrange(10, 200), self.dice.randrange(4, 60))))
            self.viewer.resize(*self.size)
            self.done["sizes"] += 1
            self.trail.append(f"size {self.size}")
        self.viewer.read(self.dice.choice((0.0, 0.005, 0.02, 0.1)))
        return self._look()

    def leave(self) -> str:
        """Out of every dialog and away; what is wrong, or ""."""
        self.viewer.resize(140, 40)
        deadline = time.monotonic() + 60
        while (code := self.viewer.exit_code()) is None and time.monotonic() < deadline:
            for key in ("\x1b", "\x1b", "q"):
                self.viewer.press(key)
                self.viewer.read(0.5)
        return "" if code == 0 else f"the console did not leave by q: {code}"

    def _send(self, kind: str, words: str, text: str) -> None:
        self.done[kind] += 1
        self.trail = [*self.trail[-60:], words]
        data = text.encode(errors="replace")
        for at in range(0, len(data), 1024):  # a terminal takes no more at once, and what the console paints has to go somewhere
            self.viewer.press(data[at : at + 1024])
            self.viewer.read(0.0 if at + 1024 >= len(data) else 0.002)

    def _look(self) -> str:
        said = self.viewer.painted()
        if "Traceback" in said:
            return f"a traceback: {said[-3000:]}"
        code = self.viewer.exit_code()
        if code is None:
            return ""
        self.viewer.read(0.5)
        # A Ctrl+C that comes after it said farewell is the shell's business.
        if code != 0 and not (code == -signal.SIGINT and _FAREWELL in self.viewer.history()):
            return f"the console ended with {code}: {self.viewer.history()[-6000:]}"
        self.done["left by its keys"] += 1
        self.viewer.end()
        self.viewer = self._open()
        return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="how long")
    parser.add_argument("--seed", type=int, default=7, help="which random keys")
    parser.add_argument("--quick", action="store_true", help="half a minute")
    asked = parser.parse_args()
    minutes = 0.5 if asked.quick else asked.minutes
    with tempfile.TemporaryDirectory(prefix="llmops-cat-") as root:
        state = Path(root) / "state"
        state.mkdir()
        (state / "config.toml").write_text('[gpus]\nprobe = "none"\n[engine]\ncpu_slots = 2\n')
        (Path(root) / "job.py").write_text(JOB)
        environment = {
            **os.environ, "LLMOPS_HOME": str(state), "TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8",
            "VISUAL": "true", "EDITOR": "true", "PYTHONPATH": str(Path(__file__).parents[1]),
        }  # fmt: skip
        wrong, begin, engine_at = "", time.monotonic(), time.monotonic()
        job = ["run", "command", "--name", "cat", "--", sys.executable, f"{root}/job.py"]
        run(environment, *job)
        cat = Cat(random.Random(asked.seed), environment, root)
        try:
            while not wrong and time.monotonic() - begin < 60 * minutes:
                wrong = cat.step()
                if time.monotonic() - engine_at > _ENGINE_SECONDS:
                    engine_at = time.monotonic()
                    run(environment, "engine", "stop")
                    cat.viewer.read(2.0)
                    run(environment, *job)  # starts it
                    cat.done["engines"] += 1
            wrong = wrong or cat.leave()
        finally:
            cat.viewer.end()
            stop_all(environment)
    seconds = time.monotonic() - begin
    print(f"{'random keys on a terminal':32}{'count':>10}")
    for name, count in cat.done.items():
        print(f"{name:32}{count:>10}")
    if wrong:
        print("last: " + ", ".join(cat.trail[-40:]) + "\n" + wrong, file=sys.stderr)
    answer = {
        "benchmark": "random_keys", "ours": {**cat.done, "seconds": round(seconds), "seed": asked.seed, "raised": int(bool(wrong))},
        "peer": {}, "ratio": 0, "bar": {"raised": 0}, "holds": not wrong,
    }  # fmt: skip
    print(json.dumps(answer))
    return 1 if wrong else 0


def run(environment: dict[str, str], *words: str) -> None:
    """A command of the program; what it refuses (a job's queue is full of cats) does not matter here."""
    subprocess.run([*PROGRAM, *words], env=environment, check=False, capture_output=True)


def stop_all(environment: dict[str, str]) -> None:
    """No run and no engine of this home is left."""
    listed = subprocess.run(
        [*PROGRAM, "runs", "list", "--filter", "state:queued,blocked,starting,running,stopping", "--json"],
        env=environment, check=False, capture_output=True, text=True,
    )  # fmt: skip
    for each in json.loads(listed.stdout or "{}").get("runs", []):
        run(environment, "runs", "stop", "--now", each["id"])
    run(environment, "engine", "stop")


if __name__ == "__main__":
    sys.exit(main())
