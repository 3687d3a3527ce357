"""MLflow's file store: one experiment with one run, as `mlflow.store.tracking.file_store` of MLflow 3.17 reads it.

That version keeps the store in maintenance: it opens it with MLFLOW_ALLOW_FILE_STORE=true, and `mlflow migrate-filestore` moves it into a
database.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from llmops_tui.engine.export.content import Content, Curve, number_text

_EXPERIMENT = "llmops-tui"
_STATUS = {"succeeded": 3, "failed": 4, "out_of_memory": 4, "hung": 4, "lost": 4, "cancelled": 5, "queued": 2, "blocked": 2, "paused": 2}
_RUNNING = 1
_LONGEST_NAME = 250  # mlflow.utils.validation.MAX_ENTITY_KEY_LENGTH
_LONGEST_PARAM = 6000  # MAX_PARAM_VAL_LENGTH
_LONGEST_TAG = 8000  # MAX_TAG_VAL_LENGTH
_NOT_IN_NAMES = re.compile(r"[^\w.\- /:]")


def write_mlflow(content: Content, curves: Iterable[Curve], directory: Path) -> None:
    """`directory` as the root of a store. Raises OSError."""
    run = content.run
    experiment = str(int.from_bytes(hashlib.sha256(_EXPERIMENT.encode()).digest()[:7], "big"))
    identity = hashlib.sha256(run["id"].encode() + str(run["submitted_at"]).encode()).hexdigest()[:32]
    home = directory / experiment
    root = home / identity
    for name in ("metrics", "params", "tags", "artifacts"):
        (root / name).mkdir(parents=True)
    began, ended = run["started_at"] or run["submitted_at"], run["ended_at"]
    millis = int(run["submitted_at"] * 1000)
    _write_meta(
        home,
        {"artifact_location": "", "creation_time": millis, "experiment_id": experiment, "last_update_time": millis,
         "lifecycle_stage": "active", "name": _EXPERIMENT},
    )  # fmt: skip
    _write_meta(
        root,
        {"artifact_uri": "", "end_time": None if ended is None else int(ended * 1000), "entry_point_name": "", "experiment_id": experiment,
         "lifecycle_stage": "active", "run_id": identity, "run_name": run["id"], "run_uuid": identity, "source_name": "",
         "source_type": 4, "source_version": "", "start_time": int(began * 1000), "status": _STATUS.get(run["state"], _RUNNING),
         "tags": [], "user_id": run["owner"], "deleted_time": None},
    )  # fmt: skip
    _write_texts(root / "params", {key: _text(value)[:_LONGEST_PARAM] for key, value in content.config.items()})
    tags = {
        "mlflow.runName": run["id"], "mlflow.user": run["owner"], "mlflow.source.type": "LOCAL", "mlflow.note.content": run["note"],
        "llmops.run": run["id"], "llmops.kind": run["kind"], "llmops.state": run["state"], "llmops.tags": ", ".join(run["tags"]),
    }  # fmt: skip
    _write_texts(root / "tags", {name: text[:_LONGEST_TAG] for name, text in tags.items() if text})
    taken: set[str] = set()
    # The deep names first: of `train` and `train/loss` the one that could be a folder gives way.
    files = {name: _file_name(name, taken) for name in sorted(run["latest"], key=lambda name: (-name.count("/"), name))}
    for curve in curves:
        path = root / "metrics" / (files.get(curve.metric) or _file_name(curve.metric, taken))
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            rows = zip(curve.t_ms.tolist(), curve.value.tolist(), curve.step.tolist(), strict=True)
            file.writelines(f"{t} {number_text(value)} {step}\n" for t, value, step in rows)


def _file_name(name: str, taken: set[str]) -> str:
    """A name that MLflow takes, for a file of its own: no name may be the folder of another (`a` and `a/b`), and none leave the store."""
    plain = posixpath.normpath(_NOT_IN_NAMES.sub("_", name)[: _LONGEST_NAME - 10]).replace("..", "_").strip("/") or "_"
    plain = "_" if plain == "." else plain
    folders = {"/".join(plain.split("/")[:n]) for n in range(1, plain.count("/") + 1)}
    if plain in taken or folders & taken or any(other.startswith(f"{plain}/") for other in taken):
        plain = f"{plain.replace('/', '.')}.{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    taken.add(plain)
    return plain


def _write_texts(directory: Path, texts: Mapping[str, str]) -> None:
    taken: set[str] = set()
    for name, text in sorted(texts.items(), key=lambda item: -item[0].count("/")):
        path = directory / _file_name(name, taken)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _write_meta(directory: Path, values: Mapping[str, object]) -> None:
    """YAML, in which every line is `key: JSON`."""
    lines = [f"{key}: {json.dumps(value)}\n" for key, value in sorted(values.items())]
    (directory / "meta.yaml").write_text("".join(lines), encoding="utf-8")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
