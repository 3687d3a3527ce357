"""Whether a student can learn from a teacher: both must mean the same by every token. Checked from the files alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmops_tui.data.hashing import HashCache
from llmops_tui.data.model_files import ModelFiles, recognise
from llmops_tui.engine.preflight_checks import base_of, described, field_error, model_info, model_record
from llmops_tui.paths import Home
from llmops_tui.specs.train import TrainSpec

_FIELD = "distill.teacher"
_WITHOUT_JSON = ("tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")


def teacher_record(spec: TrainSpec, home: Home, cwd: Path, student: ModelFiles) -> dict[str, Any] | None:
    """What a run keeps of its teacher (as `model`, with `base_path` for an adapter); None for another method than distill.

    Raises UsageError at distill.teacher where it has another vocabulary or cannot be run, NotFoundError where it is not there.
    """
    if spec.method != "distill":
        return None
    info = model_info(home, spec.distill.teacher, cwd, _FIELD)
    if info["format"] not in ("full", "adapter"):
        raise field_error(_FIELD, f"{spec.distill.teacher!r} is {described(info)}, which gives no logits here", "name a safetensors model")
    files = recognise(Path(info["path"]))
    record = model_record(home, spec.distill.teacher, info, files, _FIELD)
    whole = files
    if info["format"] == "adapter":
        base = base_of(home, info, cwd, _FIELD)
        record["base_path"] = base["path"]
        whole = recognise(Path(base["path"]))
    if reason := difference(student, files if files.tokenizer else whole, _outputs(student), _outputs(whole), home):
        raise field_error(
            _FIELD, f"{spec.distill.teacher!r} has another vocabulary than {spec.model!r}: {reason}", "choose a teacher of the same family"
        )
    return record


def difference(student: ModelFiles, teacher: ModelFiles, student_outputs: int | None, teacher_outputs: int | None, home: Home) -> str:
    """Why two models' tokens are not the same, in words; empty where they are."""
    if student_outputs != teacher_outputs:
        return f"it predicts {teacher_outputs} tokens, the student {student_outputs}"
    ours, theirs = student.path / "tokenizer.json", teacher.path / "tokenizer.json"
    if ours.is_file() and theirs.is_file():
        cache = HashCache(home.cache)
        if cache.file(ours) == cache.file(theirs):
            return ""
        one, other = vocabulary(ours), vocabulary(theirs)
        odd = sorted(
            (token for token in one.keys() | other.keys() if one.get(token) != other.get(token)), key=lambda token: (len(token), token)
        )
        return f"{len(odd)} tokens differ, for example {odd[0]!r} is {other.get(odd[0])}, not {one.get(odd[0])}" if odd else ""
    for name in _WITHOUT_JSON:
        ours, theirs = student.path / name, teacher.path / name
        if ours.is_file() != theirs.is_file() or (ours.is_file() and ours.read_bytes() != theirs.read_bytes()):
            return f"{name} differs"
    return ""


def vocabulary(path: Path) -> dict[str, int]:
    """Token → id of a tokenizer.json, added tokens included. Raises UsageError where it is none."""
    try:
        content = json.loads(path.read_bytes())
        known = content.get("model", {}).get("vocab", {})
        # Unigram models list [token, score] pairs, whose place is the id.
        found = dict(known) if isinstance(known, dict) else {pair[0]: number for number, pair in enumerate(known)}
        found.update({token["content"]: token["id"] for token in content.get("added_tokens", [])})
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        raise field_error(_FIELD, f"{path} is no tokenizer", "bring back the model's own tokenizer.json") from None
    return found


def _outputs(model: ModelFiles) -> int | None:
    text = model.config.get("text_config")
    size = (text if isinstance(text, dict) else model.config).get("vocab_size")
    return size if isinstance(size, int) else None
