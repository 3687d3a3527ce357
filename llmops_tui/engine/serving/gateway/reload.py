"""The configuration file: read when it changes, refused when it is broken, and the last good one kept, also through a restart."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from llmops_tui.engine.serving.gateway.config import GatewayConfig, parse_config
from llmops_tui.engine.serving.gateway.config_reading import ConfigError

_log = logging.getLogger("gateway")


class ConfigFile:
    """Watches `path`; `apply` is called with each configuration that is good."""

    def __init__(self, path: Path, apply: Callable[[GatewayConfig], None]) -> None:
        self._path = path
        self._good = path.with_name("config.good.json")
        self._apply = apply
        self._seen: tuple[int, int, int] | None = None
        self.error = ""  # why the file as it is now is not used

    def start(self) -> None:
        """Read for the first time; where the file is broken, the last one that was good is used."""
        self._seen = self._mark()
        if self._read(self._path):
            return
        if self._read(self._good, keep=False):
            _log.warning("going on with the last good configuration, %s", self._good)

    def check(self) -> None:
        """Read again if the file changed; called once a second."""
        mark = self._mark()
        if mark is not None and mark != self._seen:
            self.reload()

    def reload(self) -> bool:
        """Read now, whether it changed or not; False (and `error` says why) when what stands there cannot be used."""
        self._seen = self._mark()
        return self._read(self._path)

    def _read(self, path: Path, keep: bool = True) -> bool:
        try:
            raw = path.read_bytes()
        except OSError as error:
            if keep:
                self.error = f"{path} cannot be read: {error.strerror}"
            return False
        try:
            config = parse_config(raw)
            self._apply(config)
        except (ConfigError, OSError) as error:
            text = f"{path} is refused: {error}"
            if text != self.error:
                _log.error("%s; the last good configuration stays", text)
            if keep:
                self.error = text
            return False
        if keep:
            self.error = ""
            self._remember(raw)
        _log.info("configuration %d: %d endpoints, %d replicas", config.revision, len(config.endpoints), len(config.replicas))
        return True

    def _remember(self, raw: bytes) -> None:
        beside = self._good.with_name(f"{self._good.name}.new")
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(raw)
            beside.replace(self._good)
        except OSError as error:
            _log.warning("the good configuration cannot be kept for a restart: %s", error)

    def _mark(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size
