"""What reads a user's files is done with that user's rights: here where they are the engine's own, else in a process that is the user's.

Everything blocks: call it in a thread. Registering itself is the engine's: the user's process only says what it found.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from llmops_tui.data import datasets, models, registry
from llmops_tui.data.durable import sync_directory
from llmops_tui.data.hashing import sha256_file
from llmops_tui.data.lineage import lineage
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.alarm_rows import read_texts
from llmops_tui.engine.estimate.facts import Facts, glance
from llmops_tui.engine.foreign.look import Wanted
from llmops_tui.engine.preflight import prepare
from llmops_tui.engine.previewing import preview
from llmops_tui.engine.submitter import Account, account_of
from llmops_tui.engine.working_tree import WorkingTree, describe_tree
from llmops_tui.errors import LlmopsError, UsageError, from_json
from llmops_tui.paths import Home
from llmops_tui.specs.answers import DatasetInfo, ModelInfo, Preview
from llmops_tui.specs.answers_watch import AlarmRow
from llmops_tui.specs.common import RunSpec
from llmops_tui.specs.lineage import LineageNode
from llmops_tui.specs.settings import Settings
from llmops_tui.specs.train import TrainSpec

_LONGEST_SECONDS = 3600.0
_PREVIEW_SECONDS = 120.0
_ROWS_SECONDS = 60.0
_TREE_SECONDS = 60.0  # git is given five; a file in .git may be one that never ends
log = logging.getLogger(__name__)


class OnBehalf:
    """`group` is the served group's number, which may read what is kept for all."""

    def __init__(self, home: Home, settings: Settings, group: int | None = None) -> None:
        self._home = home
        self._settings = settings
        self.group = group
        self._making = threading.Lock()

    def prepare(self, uid: int, spec: RunSpec, cwd: Path) -> dict[str, Any]:
        """`preflight.prepare` with the submitter's eyes. Raises what it raises."""
        account = _account(uid)
        if account is None:
            return prepare(spec, self._home, self._settings, cwd)
        # Of the settings all but what may hold a secret of root's: a webhook's address.
        settings = self._settings.model_dump(mode="json", exclude={"notify"})
        values = {"spec": spec.model_dump(mode="json"), "settings": settings, "cwd": str(cwd)}
        return cast(dict[str, Any], self._ask(account, "prepare", values))

    def estimate_facts(self, uid: int, spec: TrainSpec, cwd: Path) -> Facts:
        """`facts.glance` with the submitter's eyes. Raises what it raises."""
        account = _account(uid)
        if account is None:
            return glance(self._home, spec, cwd)
        return cast(Facts, self._ask(account, "estimate_facts", {"spec": spec.model_dump(mode="json"), "cwd": str(cwd)}))

    def list_models(self, uid: int) -> list[ModelInfo]:
        """Registered versions, and what the user can find on this disk."""
        account = _account(uid)
        return models.list_models(self._home) if account is None else cast(list[ModelInfo], self._ask(account, "list_models", {}))

    def get_model(self, uid: int, reference: str, cwd: Path) -> ModelInfo:
        account = _account(uid)
        if account is None:
            return models.get_model(self._home, reference, cwd)
        return cast(ModelInfo, self._ask(account, "get_model", {"reference": reference, "cwd": str(cwd)}))

    def lineage(self, uid: int, reference: str, cwd: Path) -> LineageNode:
        """`lineage.lineage` with the asker's eyes. Raises NotFoundError."""
        account = _account(uid)
        if account is None:
            return lineage(self._home, reference, cwd)
        return cast(LineageNode, self._ask(account, "lineage", {"reference": reference, "cwd": str(cwd)}))

    def get_dataset(self, uid: int, reference: str, cwd: Path) -> DatasetInfo:
        account = _account(uid)
        if account is None:
            return datasets.get_dataset(self._home, reference, cwd)
        return cast(DatasetInfo, self._ask(account, "get_dataset", {"reference": reference, "cwd": str(cwd)}))

    def preview(self, uid: int, spec: TrainSpec, cwd: Path, rows: int) -> Preview:
        """`previewing.preview` with the asker's eyes. Raises what it raises."""
        account = _account(uid)
        if account is None:
            return preview(self._home, spec, cwd, rows)
        values = {"spec": spec.model_dump(mode="json"), "cwd": str(cwd), "rows": rows}
        return cast(Preview, self._ask(account, "preview", values, seconds=_PREVIEW_SECONDS))

    def import_model(self, uid: int, name: str, path: Path, licence: str) -> ModelInfo:
        """Register what the user can read. Raises what `models.register_model` raises."""
        account = _account(uid)
        if account is None:
            return models.register_model(self._home, name, path, licence=licence)
        return self._add_model(self._ask(account, "import_model", {"name": name, "path": str(path), "licence": licence}))

    def register_artifact(self, uid: int, run: RunDir, event: Mapping[str, Any]) -> ModelInfo | None:
        """Register the model a run says it made. Raises what `models.register_artifact` raises, and OSError."""
        account = account_of(uid)
        if account is None:
            return models.register_artifact(self._home, run, event)
        record = self._ask(account, "register_artifact", {"run": str(run.path), "event": dict(event), "share": self.group is not None})
        return None if record is None else self._add_model(record)

    def import_dataset(self, uid: int, path: Path, name: str, row_format: str, *, copy: bool, licence: str) -> DatasetInfo:
        """Check and register rows that the user can read. Raises what `datasets.import_dataset` raises."""
        account = _account(uid)
        if account is None:
            return datasets.import_dataset(self._home, path, name, row_format, copy=copy, licence=licence)
        values = {"path": str(path), "name": name, "format": row_format, "licence": licence}
        if not copy:
            return self._add_dataset(self._ask(account, "import_dataset", values), follow=False)
        # The user's process writes what it reads into a file of ours; nothing of the user's is opened with our rights.
        staged = self._home.datasets / f".{uuid.uuid4().hex}.copy"
        target = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        try:
            record = self._ask(account, "import_dataset", {**values, "copy_to": target}, target)
            os.fsync(target)
            if sha256_file(staged) != record["sha256"]:
                raise UsageError(f"{path}: changed while it was copied", "wait until it is written, then try again")
            lies_at = self._home.datasets / registry.check_name(str(record["name"])) / f"{record['sha256'][:16]}{_suffix(record)}"
            lies_at.parent.mkdir(exist_ok=True)
            os.replace(staged, lies_at)
            sync_directory(lies_at.parent)
        finally:
            os.close(target)
            staged.unlink(missing_ok=True)
        return self._add_dataset({**record, "path": str(lies_at)}, follow=True)

    def row_texts(self, uid: int, path: Path, numbers: list[int]) -> tuple[list[AlarmRow], str]:
        """`alarm_rows.read_texts` with the asker's eyes."""
        account = _account(uid)
        if account is None:
            return read_texts(path, numbers)
        rows, problem = self._ask(account, "row_texts", {"path": str(path), "numbers": numbers}, seconds=_ROWS_SECONDS)
        return cast(list[AlarmRow], rows), str(problem)

    def put_file(self, uid: int, ours: Path, target: Path) -> int:
        """Copy a file of ours to where the user may write, as the user's; its size. Raises LlmopsError, also where the target exists."""
        account = _account(uid)
        assert account is not None  # who is the engine's own user writes the file at once
        descriptor = os.open(ours, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return int(self._ask(account, "put_file", {"copy_from": descriptor, "path": str(target)}, descriptor))
        finally:
            os.close(descriptor)

    def read_foreign(self, uid: int, wanted: Wanted, final: bool) -> bool:
        """`foreign.look.look` with the user's eyes and pen; whether the program tells its metrics itself, so that nothing is to read."""
        account = _account(uid)
        assert account is not None  # the engine's own user's logs are read at once
        values = {
            "run_dir": str(wanted.run_dir), "attempt": wanted.attempt, "roots": [str(root) for root in wanted.roots], "since": wanted.since,
            "auto": wanted.auto, "shared": [str(root) for root in wanted.shared], "crowded": wanted.crowded, "mine": sorted(wanted.mine),
            "final": final,
        }  # fmt: skip
        return bool(self._ask(account, "read_foreign", values))

    def describe_tree(self, uid: int, directory: Path) -> WorkingTree | None:
        """`working_tree.describe_tree`: git runs as the user whose tree it is. Raises OSError."""
        account = account_of(uid)
        if account is None:
            return describe_tree(directory)
        found = self._ask(account, "describe_tree", {"directory": str(directory)}, seconds=_TREE_SECONDS)
        return None if found is None else WorkingTree(**{**found, "diff": base64.b64decode(found["diff"])})

    def _add_model(self, record: registry.Record) -> ModelInfo:
        name = registry.check_name(str(record["name"]))
        added = registry.add(self._home.models, name, str(record["sha256"]), lambda number: {**record, "version": number})
        aliases = registry.aliases(self._home.models, name)
        shown = {key: added.get(key) for key in ModelInfo.__annotations__}
        shown["aliases"] = sorted(alias for alias, number in aliases.items() if number == added["version"])
        return cast(ModelInfo, shown)

    def _add_dataset(self, record: registry.Record, *, follow: bool) -> DatasetInfo:
        record = {key: record.get(key) for key in DatasetInfo.__annotations__}
        name = registry.check_name(str(record["name"]))

        def make(number: int) -> registry.Record:
            return {**record, "version": number, "created_at": time.time()}

        added = registry.add(self._home.datasets, name, str(record["sha256"]), make, follow=follow)
        return cast(DatasetInfo, {key: added.get(key) for key in DatasetInfo.__annotations__})

    def _ask(self, account: Account, task: str, values: dict[str, Any], *inherited: int, seconds: float = _LONGEST_SECONDS) -> Any:
        """Have it done in a process of the user's; its answer, or the error it raises."""
        cache = self._home.cache / f"uid-{account.uid}"
        with self._making:
            if not cache.is_dir():
                cache.mkdir(mode=0o700)
                os.chown(cache, account.uid, account.gid, follow_symlinks=False)
        request = {
            "account": account.to_json(), "environment": account.environment(os.environ), "home": str(self._home.root),
            "cache": str(cache), "task": task, "values": values,
        }  # fmt: skip
        # -P, and the engine's own environment until it is the user: nothing of the user's is imported as root.
        command = [sys.executable, "-P", "-s", "-m", "llmops_tui.engine.as_user"]
        try:
            done = subprocess.run(
                command, input=json.dumps(request).encode(), stdout=subprocess.PIPE, cwd="/", pass_fds=inherited, check=False,
                timeout=seconds, start_new_session=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise LlmopsError(f"{task} for {account.name} took longer than {seconds:g} s", "try again") from None
        try:
            answer = json.loads(done.stdout)
        except ValueError:
            log.error("%s for %s ended with code %s and without an answer", task, account.name, done.returncode)
            raise LlmopsError(f"{task} for {account.name} failed", "see engine.log in the state directory") from None
        if "error" in answer:
            raise from_json(answer)
        return answer["value"]


def _account(uid: int) -> Account | None:
    try:
        return account_of(uid)
    except OSError as error:
        raise LlmopsError(str(error.strerror), "nothing can be done for a user the box does not know") from None


def _suffix(record: Mapping[str, Any]) -> str:
    suffix = str(record.get("suffix") or "")
    return suffix if suffix.replace(".", "").isalnum() and len(suffix) <= 20 else ""
