"""One piece of work as another user: `python -m llmops_tui.engine.as_user`, started by root's engine, a JSON request on stdin.

Everything it needs is imported first; then it gives up root for good, and only then looks at anything the user names. The
answer is one JSON object on stdout: `{"value": …}` or `{"error": …}`.
"""

from __future__ import annotations

import base64
import ctypes
import dataclasses
import json
import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_tui.data import datasets, models, registry
from llmops_tui.data.lineage import lineage
from llmops_tui.data.rundir import RunDir
from llmops_tui.data.shards import file_kind
from llmops_tui.engine.alarm_rows import read_texts
from llmops_tui.engine.estimate.facts import glance
from llmops_tui.engine.foreign.look import Memory, Wanted, look
from llmops_tui.engine.preflight import prepare
from llmops_tui.engine.previewing import preview
from llmops_tui.engine.shim import become_user
from llmops_tui.engine.working_tree import describe_tree
from llmops_tui.errors import ConflictError, LlmopsError, PermissionDeniedError, UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.settings import Settings
from llmops_tui.specs.train import TrainSpec

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True)
class SubmitterHome(Home):
    """The engine's state directory as its user sees it: registered things to read, and a cache of the user's own."""

    own_cache: Path = Path("/nonexistent")

    @property
    def cache(self) -> Path:
        return self.own_cache


def main() -> int:
    request = json.load(sys.stdin.buffer)
    account: dict[str, Any] = request["account"]
    become_user(account)
    # With the engine goes what was asked for, be it stuck in a file of the user's. Set now: becoming another user forgets it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.umask(0o077)
    os.environ.clear()
    os.environ.update(request["environment"])
    home = SubmitterHome(Path(request["home"]), explicit=True, own_cache=Path(request["cache"]))
    try:
        answer: dict[str, Any] = {"value": _TASKS[request["task"]](home, request["values"])}
    except LlmopsError as error:
        answer = error.to_json()
    except PermissionError as error:
        refused = PermissionDeniedError(f"{account['name']} may not read {error.filename}", "ask its owner for the right to read it")
        answer = refused.to_json()
    except OSError as error:
        answer = LlmopsError(f"{error.filename or request['task']}: {error.strerror}", "check the path").to_json()
    json.dump(answer, sys.stdout)
    sys.stdout.flush()
    return 0


def _prepare(home: Home, values: dict[str, Any]) -> Any:
    spec = parse_spec(values["spec"])
    if spec.kind != "command" and not os.access(sys.executable, os.X_OK):
        raise UsageError(
            f"the engine's Python, {sys.executable}, cannot be run by you",
            "ask root to install llmops-tui where everybody can read it, for example below /opt",
        )
    return prepare(spec, home, Settings.model_validate(values["settings"]), Path(values["cwd"]))


def _estimate_facts(home: Home, values: dict[str, Any]) -> Any:
    spec = parse_spec(values["spec"])
    assert isinstance(spec, TrainSpec)  # the route looked
    return glance(home, spec, Path(values["cwd"]))


def _list_models(home: Home, values: dict[str, Any]) -> Any:
    return models.list_models(home)


def _get_model(home: Home, values: dict[str, Any]) -> Any:
    return models.get_model(home, values["reference"], Path(values["cwd"]))


def _lineage(home: Home, values: dict[str, Any]) -> Any:
    return lineage(home, values["reference"], Path(values["cwd"]))


def _get_dataset(home: Home, values: dict[str, Any]) -> Any:
    return datasets.get_dataset(home, values["reference"], Path(values["cwd"]))


def _preview(home: Home, values: dict[str, Any]) -> Any:
    spec = parse_spec(values["spec"])
    assert isinstance(spec, TrainSpec)  # the route looked
    return preview(home, spec, Path(values["cwd"]), values["rows"])


def _import_model(home: Home, values: dict[str, Any]) -> Any:
    return _staged(
        home,
        lambda staging: _newest(
            staging.models, models.register_model(staging, values["name"], Path(values["path"]), licence=values["licence"])["name"]
        ),
    )


def _register_artifact(home: Home, values: dict[str, Any]) -> Any:
    def register(staging: Home) -> Any:
        info = models.register_artifact(staging, RunDir(Path(values["run"])), values["event"])
        if info is not None and values["share"]:
            _show_to_group(Path(info["path"]))
        return None if info is None else _newest(staging.models, info["name"])

    return _staged(home, register)


def _show_to_group(model: Path) -> None:
    """Libraries that save by way of a temporary file leave its mode, closed to all but its user."""
    for path in (model, *model.rglob("*")):
        status = path.lstat()
        if status.st_uid == os.getuid() and not stat.S_ISLNK(status.st_mode):
            path.chmod(stat.S_IMODE(status.st_mode) | (0o050 if stat.S_ISDIR(status.st_mode) else 0o040))


def _import_dataset(home: Home, values: dict[str, Any]) -> Any:
    source = Path(os.path.abspath(Path(values["path"]).expanduser()))
    if source.is_dir() and values.get("copy_to") is not None:
        raise UsageError(f"{source}: a directory is not copied in for another user", "import it where it lies, without a copy")

    def register(staging: Home) -> Any:
        info = datasets.import_dataset(staging, source, values["name"], values["format"], licence=values["licence"])
        suffix = ""
        if (target := values.get("copy_to")) is not None:
            suffix = "".join(source.suffixes[-2:]) if source.suffix.lower() == ".gz" else file_kind(source)
            with open(source, "rb") as original, open(int(target), "wb") as copy:
                shutil.copyfileobj(original, copy, 4 << 20)
        return {**info, "suffix": suffix}

    return _staged(home, register)


def _put_file(home: Home, values: dict[str, Any]) -> Any:
    target = Path(values["path"])
    try:
        with open(int(values["copy_from"]), "rb") as original, open(target, "xb") as copy:
            try:
                shutil.copyfileobj(original, copy, 4 << 20)
                os.fsync(copy.fileno())
            except BaseException:
                target.unlink(missing_ok=True)
                raise
            return copy.tell()
    except FileExistsError:
        raise ConflictError(f"{target} exists", "choose a name that is free") from None


def _read_foreign(home: Home, values: dict[str, Any]) -> Any:
    memory = Memory()
    wanted = Wanted(
        Path(values["run_dir"]), int(values["attempt"]), tuple(Path(root) for root in values["roots"]), float(values["since"]),
        auto=bool(values["auto"]), shared=tuple(Path(root) for root in values["shared"]), crowded=bool(values["crowded"]),
        mine=frozenset(values["mine"]),
    )  # fmt: skip
    look(wanted, memory, final=bool(values["final"]))
    return memory.own_metrics


def _describe_tree(home: Home, values: dict[str, Any]) -> Any:
    found = describe_tree(Path(values["directory"]))
    return None if found is None else {**dataclasses.asdict(found), "diff": base64.b64encode(found.diff).decode()}


def _row_texts(home: Home, values: dict[str, Any]) -> Any:
    return read_texts(Path(values["path"]), values["numbers"])


def _staged(home: Home, register: Callable[[Home], Any]) -> Any:
    """What registering would write, without writing it where it counts: that is the engine's."""
    staging = Path(tempfile.mkdtemp(prefix="register-", dir=home.cache))
    try:
        return register(SubmitterHome(staging, explicit=True, own_cache=home.cache))
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _newest(root: Path, name: str) -> registry.Record:
    return registry.versions(root, name)[-1]


_TASKS: dict[str, Callable[[Home, dict[str, Any]], Any]] = {
    "prepare": _prepare,
    "estimate_facts": _estimate_facts,
    "list_models": _list_models,
    "get_model": _get_model,
    "lineage": _lineage,
    "get_dataset": _get_dataset,
    "preview": _preview,
    "import_model": _import_model,
    "register_artifact": _register_artifact,
    "import_dataset": _import_dataset,
    "put_file": _put_file,
    "row_texts": _row_texts,
    "describe_tree": _describe_tree,
    "read_foreign": _read_foreign,
}

if __name__ == "__main__":
    sys.exit(main())
