"""The endpoints at rest: a file each, replaced whole. What was answered for stands there, whatever dies after."""

from __future__ import annotations

import logging
from pathlib import Path

from llmops_tui.data.durable import read_json, sync_directory, write_json
from llmops_tui.engine.endpoints.entry import Entry, read_entry
from llmops_tui.errors import LlmopsError, NotFoundError

log = logging.getLogger(__name__)


class EndpointBook:
    """Every endpoint by name. Only `load`, `write` and `remove` touch the disk: call those in a thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.entries: dict[str, Entry] = {}
        self.problems: list[str] = []
        # Whose servers are left alone.
        self.unreadable: set[str] = set()

    def load(self) -> None:
        """Read what is there; a file that cannot be read is told of and left alone."""
        self.entries, self.problems, self.unreadable = {}, [], set()
        for path in sorted(self._directory.glob("*.json")):
            try:
                entry = read_entry(read_json(path))  # type: ignore[arg-type]
            except (OSError, ValueError, KeyError, TypeError, AttributeError, LlmopsError) as error:
                self.problems.append(f"the endpoint in {path} is left out: {error}")
                self.unreadable.add(path.stem)
                log.error(self.problems[-1])
                continue
            self.entries[entry.name] = entry

    def get(self, name: str) -> Entry:
        """By name or alias. Raises NotFoundError."""
        found = self.entries.get(name) or next((entry for entry in self.entries.values() if name in entry.spec.aliases), None)
        if found is None:
            raise NotFoundError(f"no endpoint {name!r}", "see `llmops-tui endpoints list`")
        return found

    def owner(self, name: str) -> tuple[str, int] | None:
        """Name and uid of whose it is; None where there is no such endpoint."""
        try:
            entry = self.get(name)
        except NotFoundError:
            return None
        return entry.owner, entry.uid

    def taken(self, name: str, but: str = "") -> bool:
        """Whether a request that names this would find an endpoint, other than `but`."""
        return any(name == entry.name or name in entry.spec.aliases for entry in self.entries.values() if entry.name != but)

    def write(self, entry: Entry) -> None:
        """Durable when this returns; the caller then puts it into `entries`. Raises OSError."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_json(self._directory / f"{entry.name}.json", entry.to_json())

    def remove(self, name: str) -> None:
        """Its file is gone when this returns. Raises OSError."""
        (self._directory / f"{name}.json").unlink(missing_ok=True)
        sync_directory(self._directory)
