"""Where things lie: the state directory, its files, the socket and the configuration (XDG)."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

# sockaddr_un.sun_path holds 108 bytes with the closing NUL (man 7 unix).
_LONGEST_SOCKET_PATH = 107
# Where root's shared engine keeps its state unless another place is named.
SHARED_HOME = "/var/lib/llmops-tui"


@dataclass(frozen=True)
class Home:
    """One state directory. Everything the engine owns lies below `root`, except the socket."""

    root: Path
    explicit: bool = False

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def datasets(self) -> Path:
        return self.root / "datasets"

    @property
    def cache(self) -> Path:
        """Rebuildable downloads and conversions."""
        return self.root / "cache"

    @property
    def endpoints(self) -> Path:
        """A file an endpoint: what is served, whose it is, how its route came about."""
        return self.root / "serving" / "endpoints"

    @property
    def serving_keys(self) -> Path:
        """The digests of the gateway's keys."""
        return self.root / "serving" / "keys.json"

    @property
    def gateway(self) -> Path:
        """What the gateway reads and writes: configuration, lock, control socket, log, spool."""
        return self.root / "serving" / "gateway"

    @property
    def runtimes(self) -> Path:
        """An environment each: serving engines and quantizers."""
        return self.root / "runtimes"

    @property
    def database(self) -> Path:
        """Never `open()` this outside DuckDB: closing the handle drops DuckDB's POSIX lock."""
        return self.root / "llmops.duckdb"

    @property
    def engine_lock(self) -> Path:
        return self.root / "engine.lock"

    @property
    def engine_log(self) -> Path:
        return self.root / "engine.log"

    @property
    def engine_json(self) -> Path:
        """Written by the running engine: pid, boot id, socket, version."""
        return self.root / "engine.json"

    @property
    def view(self) -> Path:
        """What this user's viewer remembers of how it stood; of somebody else's engine it is kept among the user's own files."""
        if os.geteuid() == _owner(self.root):
            return self.root / "view.json"
        mark = hashlib.sha256(os.fsencode(self.root.absolute())).hexdigest()[:12]
        return _xdg("XDG_STATE_HOME", ".local/state") / "llmops-tui" / "views" / f"{mark}.json"

    @property
    def config(self) -> Path:
        if path := os.environ.get("LLMOPS_CONFIG"):
            return Path(path).expanduser()
        if self.explicit and os.geteuid() == _owner(self.root):  # of somebody else's engine, a viewer's own settings are the user's
            return self.root / "config.toml"
        return _xdg("XDG_CONFIG_HOME", ".config") / "llmops-tui" / "config.toml"

    @property
    def socket(self) -> Path:
        """The engine's socket, in a directory of mode 0700 that holds nothing else.

        `$XDG_RUNTIME_DIR/llmops-tui` where it exists, else `run/` in the state directory, else (a path longer than a
        socket address can hold) a directory under `/tmp` that only this user may enter.
        """
        mark = hashlib.sha256(os.fsencode(self.root.absolute())).hexdigest()[:12]
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        candidates = [Path(runtime) / "llmops-tui" / f"{mark}.sock"] if runtime and os.path.isdir(runtime) else []
        candidates.append(self.root.absolute() / "run" / "engine.sock")
        for path in candidates:
            if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
                return path
        return Path(f"/tmp/llmops-tui-{os.getuid()}") / f"{mark}.sock"

    @property
    def shared_socket(self) -> Path:
        """Where an engine that serves a group listens: a place that does not follow from its user's environment."""
        path = self.root.absolute() / "run" / "engine.sock"
        if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
            return path
        mark = hashlib.sha256(os.fsencode(self.root.absolute())).hexdigest()[:12]
        return Path(f"/tmp/llmops-tui-shared-{os.getuid()}-{mark}") / "engine.sock"


def find_home(home: str | os.PathLike[str] | None = None) -> Home:
    """The state directory: `--home`, else `$LLMOPS_HOME`, else `$XDG_STATE_HOME/llmops-tui`."""
    given = home or os.environ.get("LLMOPS_HOME")
    if given:
        return Home(Path(given).expanduser().absolute(), explicit=True)
    return Home(_xdg("XDG_STATE_HOME", ".local/state") / "llmops-tui")


def remote_view(host: str, home: str | None) -> Path:
    """What this user's viewer remembers of how it stood on another box, by ssh's name for it and the state directory there."""
    mark = hashlib.sha256(f"{host} {home or ''}".encode()).hexdigest()[:12]
    return _xdg("XDG_STATE_HOME", ".local/state") / "llmops-tui" / "views" / f"ssh-{mark}.json"


def _owner(path: Path) -> int:
    """Who a directory belongs to; this user, where there is none yet."""
    try:
        return path.stat().st_uid
    except OSError:
        return os.geteuid()


def _xdg(variable: str, fallback: str) -> Path:
    value = os.environ.get(variable)
    return Path(value) if value and os.path.isabs(value) else Path.home() / fallback
