"""The systemd user unit that starts the engine at login or boot and lets its jobs live when it stops."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path

from llmops_tui.data.durable import write_bytes
from llmops_tui.data.rundir import is_locked
from llmops_tui.errors import LlmopsError, UsageError
from llmops_tui.paths import Home, find_home

UNIT = "llmops-tui.service"

_TEMPLATE = """\
[Unit]
Description=llmops-tui engine: keeps the fine-tunes on this box running and watched
# An engine that cannot start (a newer database, a full disk) is not tried for ever.
StartLimitIntervalSec=60
StartLimitBurst=5

[Service]
ExecStart={command}
{environment}Restart=on-failure
RestartSec=2
TimeoutStopSec=20
# Stopping or updating the engine must not end the jobs: they run under shims of their own.
KillMode=process
# One job that the kernel ends for want of memory is no reason to stop the engine.
OOMPolicy=continue

[Install]
WantedBy=default.target
"""


def unit_text(home: Home, executable: str = sys.executable) -> str:
    """The unit file for this state directory. `executable` is the Python that has llmops-tui installed.

    Raises UsageError for a path that no unit file can hold (a newline).
    """
    words = [executable, "-m", "llmops_tui.engine.daemon", "--home", str(home.root)]
    config = os.environ.get("LLMOPS_CONFIG")
    if not config and not home.explicit:
        # --home alone would mean the configuration inside that directory (paths.Home.config).
        words += ["--config", str(home.config)]
    for word in (*words, config or ""):
        if "\n" in word or "\r" in word:
            raise UsageError(f"{word!r}: a unit file cannot hold a path with a line break", "choose another directory")
    # systemd expands $ in arguments, not in the path of the program (man 5 systemd.service, COMMAND LINES)
    command = " ".join([_quoted(words[0]), *(_quoted(word).replace("$", "$$") for word in words[1:])])
    environment = f"Environment={_quoted(f'LLMOPS_CONFIG={config}')}\n" if config else ""
    return _TEMPLATE.format(command=command, environment=environment)


def install(home: Home, *, booted: Path = Path("/run/systemd/system"), linger: Path = Path("/var/lib/systemd/linger")) -> list[str]:
    """Write the unit for this user and return what to do next, line by line. Starts and enables nothing by itself.

    Raises LlmopsError where systemd does not run the box; `booted` and `linger` are systemd's own marks (sd_booted(3)).
    """
    if not booted.is_dir():
        raise LlmopsError(
            "systemd does not run this box, so there is no service to install",
            "the engine starts by itself with the first command; `llmops-tui engine start` does it by hand",
        )
    text = unit_text(home)
    directory = _config_home() / "systemd" / "user"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / UNIT
    messages = []
    try:
        before = path.read_text()
    except (FileNotFoundError, UnicodeDecodeError):
        before = ""
    if before == text:
        messages.append(f"{path} is up to date")
    else:
        write_bytes(path, text.encode())
        messages.append(f"{'replaced' if before else 'wrote'} {path}")
    if is_locked(home.engine_lock):
        messages += ["an engine is running already; stop it first, its jobs go on:", "  llmops-tui engine stop"]
    messages += [
        "start it now and at every login:",
        "  systemctl --user daemon-reload",
        f"  systemctl --user enable --now {UNIT}",
        *_about_linger(linger),
    ]
    return messages


def _about_linger(linger: Path) -> list[str]:
    user = getpass.getuser()
    if (linger / user).exists():
        return [f"linger is on for {user}: the engine starts at boot, and it and its jobs go on when you log out"]
    return [
        f"linger is off for {user}: systemd ends the engine and every job with your last session; to keep them, and to start at boot:",
        f"  loginctl enable-linger {user}",
    ]


def _config_home() -> Path:
    value = os.environ.get("XDG_CONFIG_HOME")
    return Path(value) if value and os.path.isabs(value) else Path.home() / ".config"


def _quoted(word: str) -> str:
    """One word of a unit file: quotes and backslashes escaped, % doubled (specifiers)."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if escaped != word or any(character in word for character in " \t';") else escaped


def main(arguments: list[str] | None = None) -> int:
    """`python -m llmops_tui.engine.service`: what `engine service install` runs; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m llmops_tui.engine.service", description="Write the systemd user unit.")
    parser.add_argument("--home", help="state directory")
    parser.add_argument("--print", dest="print_only", action="store_true", help="print the unit and write nothing")
    options = parser.parse_args(arguments)
    home = find_home(options.home)
    try:
        print(unit_text(home) if options.print_only else "\n".join(install(home)))
    except LlmopsError as error:
        print(f"llmops-tui: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"llmops-tui: {error.filename}: {error.strerror}; repair its permissions", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
