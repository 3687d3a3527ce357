"""The first rows of a dataset as a model will meet them. Blocking: call it in a thread, with the rights of who asks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any, cast

from llmops_tui.data import datasets, models
from llmops_tui.data.formats import detect
from llmops_tui.data.judged import AnyRow, parse_row
from llmops_tui.data.rows import RowError, read_rows
from llmops_tui.engine.preflight_checks import described, field_error, train_from
from llmops_tui.errors import LlmopsError, UsageError, from_json
from llmops_tui.paths import Home
from llmops_tui.specs.answers import Preview, PreviewRow, PreviewText
from llmops_tui.specs.row_formats import learnable_by
from llmops_tui.specs.train import TrainSpec

MOST_ROWS = 50
_DETECT_ROWS = 200
_MOST_CHARACTERS = 200_000
_HELPER_SECONDS = 60.0


def preview(home: Home, spec: TrainSpec, cwd: Path, rows: int) -> Preview:
    """Rendered by the model's own template, with what is learnt of them. A broken row says why in its place.

    Raises NotFoundError or UsageError where model, dataset or format cannot be had; LlmopsError where rendering takes too long.
    """
    model = _model(home, spec, cwd)
    located = datasets.resolve(home, spec.dataset.path, cwd)
    row_format, why = (spec.dataset.format, "set by the user")
    if row_format == "auto" and located.info:
        row_format, why = cast(Any, located.format), "as registered"
    if row_format == "auto":
        sample = [row for _, row in islice(read_rows(located.path, on_error=_pass_over), _DETECT_ROWS)]
        found = detect(sample, learnable_by(spec.method))
        row_format, why = found.format, found.why
    numbers, parsed, shown = _read(located.path, row_format, rows)
    if not shown:
        raise UsageError(f"{located.path}: holds no rows", "name a file with at least one row")
    rendered = _render(model, parsed, spec) if parsed else []
    for index, texts in zip(numbers, rendered, strict=True):
        shown[index]["texts"] = texts
    return Preview(
        dataset=str(located.path), format=row_format, why=why, model=str(model), max_length=spec.max_length, method=spec.method, rows=shown
    )


def _model(home: Home, spec: TrainSpec, cwd: Path) -> Path:
    if not spec.model:
        raise field_error("model", "a model from scratch has no tokenizer before it is trained", "name a model to preview with")
    info = models.resolve(home, spec.model, cwd)
    if info["format"] == "gguf":
        raise field_error("model", f"{spec.model!r} is {described(info)}, whose tokenizer is not read here", train_from(info))
    return Path(info["path"])


def _read(path: Path, row_format: str, rows: int) -> tuple[list[int], list[AnyRow], list[PreviewRow]]:
    """Places of the good rows among those shown, the good rows, and all of them."""
    numbers: list[int] = []
    parsed: list[AnyRow] = []
    shown: list[PreviewRow] = []

    def bad(error: RowError) -> None:
        shown.append(PreviewRow(row=str(error.row_number), problem=error.reason, texts=[]))

    for number, row in read_rows(path, on_error=bad):
        if len(shown) >= rows:
            break
        try:
            good = parse_row(row, row_format, number)
        except RowError as error:
            bad(error)
            continue
        numbers.append(len(shown))
        parsed.append(good)
        shown.append(PreviewRow(row=str(number), problem="", texts=[]))
    return numbers, parsed, shown[:rows]


def _pass_over(error: RowError) -> None:
    """A broken row says nothing of the format; it is told where it is shown."""


def _render(model: Path, rows: list[AnyRow], spec: TrainSpec) -> list[list[PreviewText]]:
    request = {
        "model": str(model), "rows": rows, "method": spec.method, "max_length": spec.max_length, "assistant_only": spec.assistant_only,
    }  # fmt: skip
    content = json.dumps(request)
    if len(content) > _MOST_CHARACTERS * len(rows):
        raise UsageError(f"the rows are longer than {_MOST_CHARACTERS:,} characters each", "preview fewer, or cut them first")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    # -P: nothing of the directory it is started in is imported.
    command = [sys.executable, "-P", "-m", "llmops_tui.engine.jobs.preview"]
    try:
        done = subprocess.run(
            command, input=content.encode(), capture_output=True, env=environment, cwd="/", timeout=_HELPER_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise LlmopsError(f"{model}: rendering took longer than {_HELPER_SECONDS:g} s", "preview fewer rows") from None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise LlmopsError(f"{model}: the rows could not be rendered: {last}", "check the model's chat template") from None
    if "error" in answer:
        raise from_json(answer)
    return cast(list[list[PreviewText]], answer["value"])
