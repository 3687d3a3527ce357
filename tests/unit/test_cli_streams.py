"""What the caller's shell leaves as stdin, stdout and stderr never ends in a traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

MAN = f"{sys.executable} -m llmops_tui man"
PRINT = f"{sys.executable} -c 'from llmops_tui.__main__ import prepare_streams; prepare_streams(); print(\"caf\\u00e9\")'"


@pytest.mark.parametrize("closed", [">&-", "<&-", ">&- <&- 2>&-"])
def test_a_closed_stream_is_as_good_as_dev_null(closed: str) -> None:
    done = subprocess.run(["sh", "-c", f"{MAN} {closed}"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_stdout_is_one_line() -> None:
    done = subprocess.run(["sh", "-c", f"{MAN} >/dev/full"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_what_the_locale_cannot_spell_is_escaped() -> None:
    done = subprocess.run(["sh", "-c", f"PYTHONIOENCODING=ascii {PRINT}"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "caf\\xe9\n")
