"""Where jobs run: this box. Starts the shim of an attempt so that it outlives the engine and, where possible, a logout."""

from __future__ import annotations

import getpass
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from llmops_tui.data.rundir import RunDir

_SHIM = Path(__file__).resolve().parent.parent / "shim.py"
_PROBE_SECONDS = 5.0
# A job that starts an engine of its own must not make its shims look like parts of that job.
_OF_A_JOB = ("LLMOPS_RUN_DIR", "LLMOPS_RUN_ID", "LLMOPS_ATTEMPT")
log = logging.getLogger(__name__)


def spawn_shim(run: RunDir, attempt: int, inherited: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Start the shim of an attempt whose launch.json stands. Harmless to repeat: an attempt is begun once.

    What the shim itself has to say goes to the run's log. `inherited` are descriptors that it and its job keep open: what
    they hold is held for as long as the job lives. Raises OSError (no memory, no process left).
    """
    argv = [*_scope(), sys.executable, "-I", "-S", str(_SHIM), str(run.path.absolute()), str(attempt), *map(str, inherited)]
    environment = {name: value for name, value in os.environ.items() if name not in _OF_A_JOB}
    output = os.open(run.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=environment,
            start_new_session=True,
            pass_fds=inherited,
        )
    finally:
        os.close(output)


@lru_cache(maxsize=1)
def _scope() -> tuple[str, ...]:
    """The words before argv that put a shim into a unit of the user's systemd, where that outlives a logout.

    Only with linger: without it the user's systemd stops its units at logout, and a plain session of its own lives longer.
    The shim replaces systemd-run, so its pid is the one that was started. Tried once, because a socket that is there may
    still not answer.
    """
    program = shutil.which("systemd-run")
    if not program or not os.environ.get("XDG_RUNTIME_DIR") or not _lingers():
        return ()
    words = (program, "--user", "--scope", "--quiet", "--collect", "--")
    try:
        subprocess.run([*words, "true"], check=True, timeout=_PROBE_SECONDS, stdin=subprocess.DEVNULL, capture_output=True)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("the user's systemd takes no jobs, they run in sessions of their own: %s", error)
        return ()
    return words


def _lingers() -> bool:
    try:
        return Path("/var/lib/systemd/linger", getpass.getuser()).exists()
    except (KeyError, OSError):  # a uid without a name
        return False
