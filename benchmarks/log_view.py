"""What a log of 1 GB costs: opening it in the viewer at its last screen, and searching it forward for a word that stands at its end.

A real engine has an ended run whose output is 1 GB of plain lines (written out, no holes); the viewer runs on a pseudo-terminal of
140 × 40 cells. Opening is the viewer's CPU from Enter on the run until the last line is painted: client, page and log; the least of
three viewers. The search is the engine's CPU, asked by the client until it ends. Beside them, in the same run: `less +G` and
`less +/word` on the same file, `grep -c`, and Textual's Log and RichLog with the file's first lines (all of it would take up to an hour).
`ratio` is our search's bytes a CPU second over less's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tables import Terminal

from llmops_tui.client import Client
from llmops_tui.paths import Home
from llmops_tui.specs.states import ENDED

OPEN_BAR_SECONDS, SEARCH_BAR_BYTES = 0.3, 200e6
NEEDLE, LAST = "needle-in-the-log", "the very last line"
_TICKS = os.sysconf("SC_CLK_TCK")
_PEER_MEGABYTES = {"Log": 8, "RichLog": 1}

PEER = """
import sys
from textual.app import App
from textual.widgets import Log, RichLog
class Peer(App):
    BINDINGS = [("o", "open", "")]
    def compose(self):
        self.log_view = Log() if sys.argv[1] == "Log" else RichLog()
        yield self.log_view
    def on_ready(self):
        (self.log_view.write_line if sys.argv[1] == "Log" else self.log_view.write)("waiting for o")
    def action_open(self):
        lines = open(sys.argv[2], "rb").read(int(sys.argv[3])).decode().split("\\n")
        if sys.argv[1] == "Log":
            self.log_view.write_lines(lines)
        else:
            for line in lines:
                self.log_view.write(line)
        (self.log_view.write_line if sys.argv[1] == "Log" else self.log_view.write)("LASTLINE")
Peer().run()
"""


def make_log(path: Path, size: int) -> None:
    """Plain lines as a trainer writes them; the needle stands in the line before the last."""
    step = 0
    with open(path, "wb") as file:
        while file.tell() < size:
            block = [
                b"2026-11-07 06:25:%02d INFO step %09d loss %.4f grad_norm 0.%03d tokens/s %d\n"
                % (n % 60, n, 1.5 + n % 977 / 1000, n % 911, 51_000 + n % 777)
                for n in range(step, step + 20_000)
            ]
            file.write(b"".join(block))
            step += 20_000
        file.write(f"ERROR {NEEDLE}\n{LAST}\n".encode())


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of its children that ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return sum(int(fields[at]) for at in (11, 12, 13, 14)) / _TICKS


def open_ours(environment: dict[str, str], home: Home, run_id: str) -> tuple[float, float, float]:
    """CPU of the viewer from Enter to the last line; then of a search from the first line to the needle, and its wall time."""
    home.view.unlink(missing_ok=True)  # the viewer before left its place in the log there
    viewer = Terminal([sys.executable, "-m", "llmops_tui"], environment)
    try:
        viewer.wait(run_id)
        viewer.wait(" LIVE ")
        viewer.quiet_cpu(1.0)
        before = viewer.cpu_seconds()
        viewer.press("\r")
        viewer.wait(LAST)
        opened = viewer.cpu_seconds() - before
        viewer.press("3")
        viewer.press("g")
        viewer.wait("000000001")
        viewer.quiet_cpu(1.0)
        before, began = viewer.cpu_seconds(), time.monotonic()
        viewer.press("/")
        viewer.wait("regular expression")
        viewer.press(f"{NEEDLE}\r")
        viewer.wait("at 99 %")
        return opened, viewer.cpu_seconds() - before, time.monotonic() - began
    finally:
        viewer.end()


def search_ours(client: Client, run_id: str, pattern: str, regex: bool = False, ignore_case: bool = False) -> float:
    """CPU seconds of the engine until the one hit is found."""
    pid = client.engine()["pid"]
    before, offset = cpu_seconds(pid), 0
    while True:
        found = client.log_search(run_id, pattern, regex, ignore_case, offset, limit=1)
        if found["hits"]:
            return cpu_seconds(pid) - before
        if not found["more"]:
            raise SystemExit(f"{pattern!r} was not found")
        offset = found["scanned_to"]


def on_terminal(argv: list[str], text: str, environment: dict[str, str], keys: str = "", ready: str = "") -> float:
    """CPU seconds of a program until it painted a text, from the key on if one is pressed."""
    program = Terminal(argv, environment)
    try:
        before = 0.0
        if keys:
            program.wait(ready)
            before = program.quiet_cpu(0.5)
            program.press(keys)
        program.wait(text, 600)
        return program.cpu_seconds() - before
    finally:
        program.end()


def of_children(argv: list[str], environment: dict[str, str]) -> float:
    """CPU seconds of a command."""
    before = os.times()
    subprocess.run(argv, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def least(rounds: int, measure: Callable[[], float]) -> float:
    """The least of some rounds, at least a tick."""
    return max(1 / _TICKS, min(measure() for _ in range(rounds)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a log of 200 MB and fewer rounds")
    quick = parser.parse_args().quick
    size, rounds = (200_000_000, 2) if quick else (1_000_000_000, 3)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < size + (2 << 30):
        raise SystemExit(f"{tempfile.gettempdir()} has {free / 1e9:.1f} GB free; {size / 1e9 + 2.2:.1f} GB are needed: set TMPDIR")
    with tempfile.TemporaryDirectory(prefix="llmops-logview-") as directory:
        home = Home(Path(directory), explicit=True)
        environment = {**os.environ, "LLMOPS_HOME": directory, "TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8"}
        environment.pop("NO_COLOR", None)
        client = Client(home)
        client.ensure_engine()
        try:
            run_id = client.submit({"kind": "command", "name": "long", "argv": ["true"]})["id"]
            while client.run(run_id)["state"] not in ENDED:
                time.sleep(0.1)
            log = home.runs / run_id / "stdout.log"
            make_log(log, size)
            whole = log.stat().st_size
            viewers = [open_ours(environment, home, run_id) for _ in range(rounds)]
            opened, found, wall = (min(values) for values in zip(*viewers, strict=True))
            plain = least(rounds, lambda: search_ours(client, run_id, NEEDLE))
            folded = least(rounds, lambda: search_ours(client, run_id, NEEDLE.upper(), ignore_case=True))
            regex = least(rounds, lambda: search_ours(client, run_id, "needle-.*log$", regex=True))
            less_end = least(rounds, lambda: on_terminal(["less", "-n", "+G", str(log)], LAST, environment))
            less_find = least(rounds, lambda: on_terminal(["less", "-n", f"+/{NEEDLE}", str(log)], LAST, environment))
            grep = least(rounds, lambda: of_children(["grep", "-c", NEEDLE, str(log)], environment))
            widgets = {}
            for name, megabytes in _PEER_MEGABYTES.items():
                argv = [sys.executable, "-c", PEER, name, str(log), str(megabytes * 1_000_000)]
                widgets[name] = on_terminal(argv, "LASTLINE", environment, "o", "waiting for o") / megabytes
        finally:
            client.stop_engine()

    def rate(seconds: float) -> float:
        return whole / seconds / 1e6

    print(f"{whole / 1e6:,.0f} MB of log{'':16}{'CPU seconds':>12}{'MB a CPU second':>18}")
    print(f"{'open at the last screen, ours':34}{opened:>12.2f}")
    print(f"{'  less +G':34}{less_end:>12.2f}")
    for name, seconds in widgets.items():
        print(f"{f'  Textual {name}, so much a MB':34}{seconds:>12.2f}   {seconds * whole / 1e6:,.0f} s for all of it")
    for title, seconds in (
        ("search forward, ours (engine)", plain), ("  capitals do not matter", folded), ("  a regular expression", regex),
        ("  less +/word", less_find), ("  grep -c", grep),
    ):  # fmt: skip
        print(f"{title:34}{seconds:>12.2f}{rate(seconds):>18,.0f}")
    print(f"{'  in the viewer, / to the hit':34}{found:>12.2f}   {wall:.1f} s on the clock, the line typed included")
    holds = opened <= OPEN_BAR_SECONDS and whole / plain >= SEARCH_BAR_BYTES
    told = {
        "benchmark": "log_view",
        "ours": {
            "bytes": whole, "open_cpu_seconds": round(opened, 3), "search_mb_per_cpu_second": round(rate(plain)),
            "search_ignoring_case_mb_per_cpu_second": round(rate(folded)), "search_regex_mb_per_cpu_second": round(rate(regex)),
            "viewer_search_cpu_seconds": round(found, 3),
        },
        "peer": {
            "less_open_cpu_seconds": round(less_end, 3), "less_search_mb_per_cpu_second": round(rate(less_find)),
            "grep_mb_per_cpu_second": round(rate(grep)), "textual_cpu_seconds_per_mb": {name: round(s, 3) for name, s in widgets.items()},
        },
        "ratio": round(less_find / plain, 2),
        "bar": {"open_cpu_seconds": OPEN_BAR_SECONDS, "search_mb_per_cpu_second": SEARCH_BAR_BYTES / 1e6},
        "holds": holds,
    }  # fmt: skip
    print(json.dumps(told))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
