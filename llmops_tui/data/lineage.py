"""What a model was made from, back to what was imported: its parents, their parents, and the rows of each step.

Told from the registry's records, and where a version was registered without its lineage, from the spec of the run that made
it. Nothing is hashed here: a parent whose record has another digest now is said to have changed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from llmops_tui.data import models, registry
from llmops_tui.data.durable import read_json
from llmops_tui.data.model_files import recognise
from llmops_tui.data.rundir import RunDir
from llmops_tui.paths import Home
from llmops_tui.specs.lineage import LineageData, LineageNode

_DEEPEST = 32


@dataclass(frozen=True)
class _Parent:
    """A parent as the child's record or run tells of it."""

    role: str
    path: str
    sha256: str
    licence: str
    weight: float | None


def lineage(home: Home, ref: str, cwd: Path) -> LineageNode:
    """The tree above one model. Raises NotFoundError where there is no such model; what is missing further up is a problem told."""
    info = models.get_model(home, ref, cwd)
    known = {
        os.path.realpath(record["path"]): record for name in registry.names(home.models) for record in registry.versions(home.models, name)
    }
    record: Mapping[str, Any] = known.get(os.path.realpath(info["path"]), info)
    if info["version"] is not None:
        record = registry.find(home.models, registry.Reference(info["name"], info["version"], ""), "model")
    return _node(home, known, record, _Parent("", info["path"], "", "", None), ())


def template_sha256(model: Path) -> str:
    """SHA-256 of a model directory's chat template; empty where it has none of its own."""
    template = model / "chat_template.jinja"
    try:
        if template.is_file():
            return sha256(template.read_bytes()).hexdigest()
        told = json.loads((model / "tokenizer_config.json").read_bytes()).get("chat_template")
    except (OSError, ValueError, AttributeError):
        return ""
    if not told:
        return ""
    return sha256((told if isinstance(told, str) else json.dumps(told, sort_keys=True)).encode()).hexdigest()


def _node(
    home: Home, known: Mapping[str, Mapping[str, Any]], record: Mapping[str, Any], seen_as: _Parent, above: tuple[str, ...]
) -> LineageNode:
    path = Path(seen_as.path)
    run, problems = _run_of(home, record, path), []
    wish: dict[str, Any] = {}
    if run:
        wish, problem = _wish(home, run)
        problems += [problem] if problem else []
    if not path.exists():
        problems.append(f"{path} has gone")
    told = str(record.get("sha256") or "")
    if seen_as.sha256 and told and told != seen_as.sha256:
        problems.append("it has changed since: another digest is registered for this path")
    parents = _parents(record, wish)
    if len(above) >= _DEEPEST or seen_as.path in above:
        parents = []
        problems.append("the rest is left out: it is its own ancestor, or the chain is too long")
    nodes = [_node(home, known, known.get(os.path.realpath(parent.path), {}), parent, (*above, seen_as.path)) for parent in parents]
    licence = str(record.get("licence") or "") or seen_as.licence
    inherited = {each for node in nodes for each in ([node["licence"]] if node["licence"] else node["licence_from_parents"])}
    return LineageNode(
        reference=f"{record['name']}@v{record['version']}" if record.get("version") else str(path),
        role=seen_as.role,
        weight=seen_as.weight,
        how=_how(record, wish),
        run=run,
        format=str(record.get("format") or recognise(path).format),
        path=str(path),
        sha256=told or seen_as.sha256,
        licence=licence,
        licence_from_parents=[] if licence else sorted(inherited),
        template_sha256=template_sha256(path),
        created_at=record.get("created_at"),
        data=_data(record, wish),
        parents=nodes,
        problems=problems,
    )


def _run_of(home: Home, record: Mapping[str, Any], path: Path) -> str:
    if run := str(record.get("run") or ""):
        return run
    return path.relative_to(home.runs).parts[0] if path.is_relative_to(home.runs) and path != home.runs else ""


def _wish(home: Home, run: str) -> tuple[dict[str, Any], str]:
    """The run's spec.json, or why there is none."""
    try:
        found = read_json(RunDir(home.runs / run).spec)
    except (OSError, ValueError) as error:
        return {}, f"the spec of {run} cannot be read: {error}"
    return (found, "") if isinstance(found, dict) else ({}, f"{run} has been removed")


def _how(record: Mapping[str, Any], wish: Mapping[str, Any]) -> str:
    if how := (record.get("lineage") or {}).get("how"):
        return str(how)
    spec = wish.get("spec") or {}
    if spec.get("kind") == "train":
        return " ".join(str(spec[key]) for key in ("kind", "method", "adaptation") if spec.get(key))
    return str(spec.get("kind") or record.get("source") or "found")


def _parents(record: Mapping[str, Any], wish: Mapping[str, Any]) -> list[_Parent]:
    """As the record lists them; else the model and the teacher the run was given; else the base that the files name."""
    listed = (record.get("lineage") or {}).get("parents")
    if isinstance(listed, list):
        return [_parent(each, str(each.get("role") or "parent")) for each in listed if isinstance(each, dict) and each.get("path")]
    prepared = wish.get("prepared") or {}
    begun = "adapter" if (prepared.get("model") or {}).get("format") == "adapter" else "base"
    found = [
        _parent(prepared[key], role) for key, role in (("model", begun), ("teacher", "teacher")) if (prepared.get(key) or {}).get("path")
    ]
    base = str(record.get("base") or "")
    return found or ([_Parent("base", base, "", "", None)] if base else [])


def _parent(told: Mapping[str, Any], role: str) -> _Parent:
    weight = told.get("weight")
    return _Parent(
        role,
        str(told["path"]),
        str(told.get("sha256") or ""),
        str(told.get("licence") or ""),
        weight if isinstance(weight, float) else None,
    )


def _data(record: Mapping[str, Any], wish: Mapping[str, Any]) -> list[LineageData]:
    listed = (record.get("lineage") or {}).get("data")
    if isinstance(listed, list):
        return [_rows(each, "learnt") for each in listed if isinstance(each, dict)]
    if (wish.get("spec") or {}).get("kind") != "train":
        return []
    prepared = wish.get("prepared") or {}
    one = [(prepared.get(key), role) for key, role in (("dataset", "learnt"), ("eval_dataset", "held out"), ("probe", "probed"))]
    several = [(each, "rehearsed") for each in prepared.get("rehearsal") or []]
    return [_rows(each, role) for each, role in (*one, *several) if isinstance(each, dict)]


def _rows(told: Mapping[str, Any], role: str) -> LineageData:
    return LineageData(
        role=role, name=str(told.get("name") or ""), version=told.get("version"), path=str(told.get("path") or ""), rows=told.get("rows"),
        licence=str(told.get("licence") or ""), sha256=str(told.get("sha256") or ""),
    )  # fmt: skip
