"""The catalog of models: versions registered by the user or made by a run, and those found where they lie."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from llmops_tui.data import registry
from llmops_tui.data.discovery import discover
from llmops_tui.data.hashing import HashCache, Progress
from llmops_tui.data.model_files import recognise
from llmops_tui.data.recognition import Recogniser, describe
from llmops_tui.data.rundir import RunDir
from llmops_tui.errors import NotFoundError, UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.answers import ModelCheck, ModelInfo


def list_models(home: Home) -> list[ModelInfo]:
    """Registered versions, newest of each name first, then what was found on disk and is not registered."""
    recogniser = Recogniser(home.cache)
    registered = [
        _present(record, registry.aliases(home.models, name), recogniser)
        for name in registry.names(home.models)
        for record in reversed(registry.versions(home.models, name))
    ]
    known = {os.path.realpath(info["path"]) for info in registered}
    found = [info for info in discover(recogniser) if os.path.realpath(info["path"]) not in known]
    recogniser.save()
    return [*registered, *found]


def get_model(home: Home, ref: str, cwd: Path | None = None) -> ModelInfo:
    """One model by `name`, `name@v2`, `name@alias`, the name it was found under, or a path.

    A registered name comes before a file of that name: write `./name` for the file. Raises NotFoundError.
    """
    reference = None if registry.is_path_like(ref) else registry.parse_reference(ref)
    if reference and (reference.alias or reference.version or registry.versions(home.models, reference.name)):
        record = registry.find(home.models, reference, "model")
        return _present(record, registry.aliases(home.models, reference.name), Recogniser(home.cache))
    path = _absolute(ref, cwd)
    if path.exists() or path.is_symlink():
        info = describe(recognise(path))
        info["source"] = "path"
        return info
    if not registry.is_path_like(ref):
        recogniser = Recogniser(home.cache)
        for info in discover(recogniser):
            if info["name"] == ref:
                recogniser.save()
                return info
    raise NotFoundError(
        f"model {ref!r}: no registered name, no model found on this box, and no file at {path}", "see `llmops-tui models list`"
    )


def resolve(home: Home, ref: str, cwd: Path) -> ModelInfo:
    """`get_model`, refusing what cannot be loaded. Raises NotFoundError, or UsageError with the first thing that is missing."""
    info = get_model(home, ref, cwd)
    if not info["complete"]:
        reason = info["problems"][0] if info["problems"] else "cannot be loaded"
        raise UsageError(f"model {ref!r}: {info['path']}: {reason}", "name a directory with config.json and model.safetensors")
    return info


def registered_at(home: Home, path: Path) -> ModelInfo | None:
    """The newest version whose files lie at `path`, under whatever name; None where none does."""
    real = os.path.realpath(path)
    found = [
        (record, name)
        for name in registry.names(home.models)
        for record in registry.versions(home.models, name)
        if os.path.realpath(record["path"]) == real
    ]
    if not found:
        return None
    record, name = max(found, key=lambda each: float(each[0].get("created_at") or 0))
    return _present(record, registry.aliases(home.models, name), Recogniser(home.cache))


def register_model(
    home: Home,
    name: str,
    path: Path,
    *,
    source: str = "import",
    licence: str = "",
    base: str = "",
    run: str = "",
    lineage: Mapping[str, Any] | None = None,
    checks: Sequence[ModelCheck] = (),
    card: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> ModelInfo:
    """Give the model at `path` a name and a version; the files stay where they are.

    The same content under the same name is the same version. Raises NotFoundError, or UsageError where no whole model lies there.
    """
    registry.check_name(name)
    path = Path(os.path.abspath(path))
    found = recognise(path)
    if not path.exists():
        raise NotFoundError(f"{path}: {found.problems[0]}", "check the path; it is read relative to where the command was given")
    if not found.complete:
        raise UsageError(f"{path}: {found.problems[0]}", "name a directory with config.json and model.safetensors, or a GGUF file")
    info = describe(found)
    sha256 = model_digest(home, path, progress)

    def make(number: int) -> registry.Record:
        return {
            **info, "name": name, "version": number, "source": source, "licence": licence or info["licence"], "sha256": sha256,
            "base": base or info["base"], "run": run, "created_at": time.time(), "lineage": dict(lineage or {}),
            "checks": list(checks), "card": dict(card or {}),
        }  # fmt: skip

    record = registry.add(home.models, name, sha256, make)
    return _present(record, registry.aliases(home.models, name), Recogniser(home.cache))


def register_artifact(home: Home, run: RunDir, event: Mapping[str, Any]) -> ModelInfo | None:
    """Register what a run's `artifact` event with `artifact: "model"` names; None for another artifact.

    The path is relative to the run directory and must stay in it. Registering an event twice changes nothing.
    """
    if event.get("artifact") != "model":
        return None
    path = Path(os.path.abspath(run.path / str(event.get("path", ""))))
    if not path.is_relative_to(run.path.absolute()) or path == run.path.absolute():
        raise UsageError(f"run {run.id}: its model lies outside the run directory: {path}", "write models below `artifacts/`")
    lineage = {"run": run.id, "base": event.get("base", ""), **dict(event.get("lineage") or {})}
    name = registry.name_from(str(event.get("name") or run.id), "model")
    return register_model(
        home, name, path, source="run", licence=str(event.get("licence") or ""), base=str(event.get("base") or ""), run=run.id,
        lineage=lineage, checks=event.get("checks") or (), card=event.get("card"),
    )  # fmt: skip


def model_digest(home: Home, path: Path, progress: Progress | None = None) -> str:
    """SHA-256 over weights, configuration and tokenizer, by content; read once, then remembered."""
    found = recognise(path)
    root = found.path if found.path.is_dir() else found.path.parent
    return HashCache(home.cache).files(found.identity(), root, progress)


def _present(record: registry.Record, aliases: Mapping[str, int], recogniser: Recogniser) -> ModelInfo:
    """The record as it was written, with what its files say today."""
    today = recogniser.look(Path(record["path"]))
    fields = {key: record.get(key) for key in ModelInfo.__annotations__}
    fields["aliases"] = sorted(alias for alias, number in aliases.items() if number == record["version"])
    fields["complete"], fields["problems"] = today["complete"], today["problems"]
    fields["checks"] = record.get("checks") or []  # versions registered before there were checks have none
    fields["card"] = record.get("card") or {}
    return cast(ModelInfo, fields)


def _absolute(ref: str, cwd: Path | None) -> Path:
    return Path(os.path.abspath((cwd or Path.cwd()) / Path(ref).expanduser()))
