"""A run once more, from its capsule, with what is not as it was then: packages, driver, GPUs, code, data, model. Pure but for its inputs.

The numbers of two runs can only be compared by those who know what differed between them; so this is told before the start and
kept in the new run's record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops_tui.engine.working_tree import WorkingTree
from llmops_tui.specs.answers import GpuSample
from llmops_tui.specs.reproduction import Difference

# What the numbers come from: where these differ, it is another experiment.
DECISIVE = ("data", "held-out data", "model", "base model")
_INPUTS = (("data", "dataset"), ("held-out data", "eval_dataset"), ("model", "model"))
_SHORT = 16


@dataclass(frozen=True)
class Present:
    """How it would be now: `prepared` is of the new run's checks, `tree` None where its directory is in no git tree."""

    prepared: Mapping[str, Any]
    python: str
    packages: Mapping[str, str]
    driver: Mapping[str, str]
    gpus: Sequence[GpuSample]
    host: str
    tree: WorkingTree | None


def pinned_spec(record: Mapping[str, Any]) -> dict[str, Any]:
    """The spec with names that may mean something newer by now (a data set's newest version, an alias) replaced by what they meant."""
    spec = dict(record["spec"])
    prepared = record.get("prepared")
    found = prepared if isinstance(prepared, dict) else {}
    if isinstance(spec.get("model"), str) and (model := _pinned(found.get("model"))):
        spec["model"] = model
    if isinstance(spec.get("dataset"), dict):
        dataset = dict(spec["dataset"])
        if path := _pinned(found.get("dataset")):
            dataset["path"] = path
        if dataset.get("eval_path") and (path := _pinned(found.get("eval_dataset"))):
            dataset["eval_path"] = path
        spec["dataset"] = dataset
    if isinstance(spec.get("keep"), dict):
        spec["keep"] = _pinned_keep(spec["keep"], found)
    if isinstance(spec.get("distill"), dict) and (teacher := _pinned(found.get("teacher"))):
        spec["distill"] = {**spec["distill"], "teacher": teacher}
    return spec


def _pinned_keep(keep: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """The rows rehearsed and probed, likewise."""
    pinned, rehearsed = dict(keep), found.get("rehearsal")
    if keep.get("probe_path") and (path := _pinned(found.get("probe"))):
        pinned["probe_path"] = path
    if isinstance(rehearsed, list) and len(rehearsed) == len(keep.get("rehearsal") or []):
        pinned["rehearsal"] = [
            {**choice, "path": _pinned(record) or choice["path"]} for choice, record in zip(keep["rehearsal"], rehearsed, strict=True)
        ]
    return pinned


def differences(capsule: Mapping[str, Any], now: Present) -> list[Difference]:
    """Everything that is not as it was, what decides the numbers most first."""
    return [
        Difference(what=what, then=then, now=new)
        for what, then, new in (*_inputs(capsule, now), *_code(capsule, now), *_machine(capsule, now), *_packages(capsule, now))
        if then != new
    ]


def decisive(found: Sequence[Difference]) -> list[Difference]:
    """Those that make it another experiment."""
    return [difference for difference in found if difference["what"] in DECISIVE]


_Triple = tuple[str, str, str]


def _inputs(capsule: Mapping[str, Any], now: Present) -> Iterator[_Triple]:
    then = _mapping(capsule.get("prepared"))
    for what, key in _INPUTS:
        before, after = _mapping(then.get(key)), _mapping(now.prepared.get(key))
        yield what, _digest(before), _digest(after) if _digest(before) else ""


def _code(capsule: Mapping[str, Any], now: Present) -> Iterator[_Triple]:
    then, tree = _mapping(capsule.get("git")), now.tree
    yield "git commit", str(then.get("commit") or ""), tree.commit if tree else ""
    before = str(_mapping(then.get("diff")).get("sha256") or "")
    after = hashlib.sha256(tree.diff).hexdigest() if tree and tree.diff else ""
    yield "git diff", before and f"changes {before[:_SHORT]}", after and f"changes {after[:_SHORT]}"


def _machine(capsule: Mapping[str, Any], now: Present) -> Iterator[_Triple]:
    yield "python", str(_mapping(capsule.get("python")).get("version") or ""), now.python
    before, after = _mapping(capsule.get("driver")), now.driver
    for name in sorted({*before, *after}):
        yield f"driver {name}", str(before.get(name, "")), str(after.get(name, ""))
    held = [gpu for gpu in capsule.get("gpus") or [] if isinstance(gpu, dict)]
    present = {gpu["uuid"] for gpu in now.gpus}
    if any(gpu.get("uuid") not in present for gpu in held):  # that very GPU is gone: a like one does nearly the same
        names = ", ".join(sorted(str(gpu.get("name")) for gpu in held))
        there = ", ".join(sorted(gpu["name"] for gpu in now.gpus)) or "none"
        yield "GPU", f"{names} ({', '.join(str(gpu.get('uuid')) for gpu in held)})", there
    yield "host", str(_mapping(capsule.get("host")).get("name") or ""), now.host


def _packages(capsule: Mapping[str, Any], now: Present) -> Iterator[_Triple]:
    before = _mapping(_mapping(capsule.get("python")).get("packages"))
    for name in sorted({*before, *now.packages}, key=str.lower):
        yield f"package {name}", str(before.get(name, "")), now.packages.get(name, "")


def _pinned(found: object) -> str:
    """`name@v3` where it has a version, else its path."""
    if not isinstance(found, dict):
        return ""
    if found.get("version") and found.get("name"):
        return f"{found['name']}@v{found['version']}"
    return str(found.get("path") or "")


def _digest(found: Mapping[str, Any]) -> str:
    return str(found.get("sha256") or "")


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
