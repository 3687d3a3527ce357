"""CSV: long (a line a point, every attempt), wide (a line a step), and the run's facts beside them."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable
from pathlib import Path

from llmops_tui.engine.export.content import Content, Curve, number_text


def write_csv(content: Content, curves: Iterable[Curve], directory: Path) -> None:
    """`long.csv`, `wide.csv` and `run.json`. `curves` hold every attempt; wide takes the last one of each step. Raises OSError."""
    wide: dict[int, dict[str, str]] = {}
    names: list[str] = []
    with open(directory / "long.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("metric", "step", "t", "value", "attempt"))
        for curve in curves:
            names.append(curve.metric)
            columns = (curve.step.tolist(), curve.t_ms.tolist(), curve.value.tolist(), curve.attempt.tolist())
            for step, t_ms, value, attempt in zip(*columns, strict=True):  # a later attempt comes later, and stays
                text = number_text(value)
                table.writerow((curve.metric, step, t_ms / 1000, text, attempt))
                wide.setdefault(step, {})[curve.metric] = text
    with open(directory / "wide.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("step", *names))
        for step in sorted(wide):
            table.writerow((step, *(wide[step].get(name, "") for name in names)))
    latest = {name: value if math.isfinite(value) else number_text(value) for name, value in content.run["latest"].items()}
    facts = {"run": {**content.run, "latest": latest}, "config": content.config}
    (directory / "run.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
