"""`datasets list|show|import|preview`."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from llmops_tui.commands.connect import connect
from llmops_tui.commands.names import name_from_path, reference_from
from llmops_tui.commands.output import ago, coloured, number, print_fields, print_json, print_table, say, size
from llmops_tui.specs.preview_text import cut_words, head_line, marked, text_line

if TYPE_CHECKING:
    from llmops_tui.specs.answers import DatasetInfo, PreviewText


def list_datasets(args: argparse.Namespace) -> int:
    """Registered dataset versions."""
    datasets = connect(args).datasets()
    if args.json:
        print_json(datasets)
        return 0
    if not datasets:
        say("no datasets; `llmops-tui datasets import FILE` checks and registers one")
        return 0
    rows = [
        [
            _reference(dataset),
            dataset["format"],
            number(dataset["rows"]),
            size(dataset["bytes"]),
            dataset["licence"] or "-",
            dataset["path"],
        ]
        for dataset in datasets
    ]
    print_table(["DATASET", "FORMAT", "ROWS", "SIZE", "LICENCE", "PATH"], rows, right=[2, 3])
    return 0


def show(args: argparse.Namespace) -> int:
    """One dataset version."""
    _print_dataset(connect(args).dataset(reference_from(args.reference)), args.json)
    return 0


def import_dataset(args: argparse.Namespace) -> int:
    """Check every row and register the file; the engine names the rows that are broken."""
    path = os.path.abspath(os.path.expanduser(args.path))
    name = args.name or name_from_path(path)
    _print_dataset(connect(args).import_dataset(path, name, args.format, args.copy, args.licence), args.json)
    return 0


def preview(args: argparse.Namespace) -> int:
    """Rows as a model will meet them. What it learns is green on a terminal, and stands in brackets everywhere."""
    dataset = {"path": reference_from(args.reference), "format": args.format}
    spec = {"kind": "train", "method": args.method, "model": reference_from(args.model), "dataset": dataset, "max_length": args.max_length}
    found = connect(args).preview(spec, rows=args.rows)
    if args.json:
        print_json(found)
        return 0
    say(head_line(found))
    for row in found["rows"]:
        if row["problem"]:
            print(f"row {row['row']}: {coloured(row['problem'], '31')}")
        for text in row["texts"]:
            print(coloured(text_line(row, text), "1"))
            _print_text(text)
        print()
    return 0


def _print_text(text: PreviewText) -> None:
    for words, learnt in marked(text):
        print(coloured(words, "32" if learnt else ""), end="")
    print(coloured(cut_words(text), "33"))


def _print_dataset(dataset: DatasetInfo, as_json: bool) -> None:
    if as_json:
        print_json(dataset)
        return
    print_fields(
        [
            ("dataset", _reference(dataset)),
            ("format", dataset["format"]),
            ("rows", number(dataset["rows"])),
            ("size", size(dataset["bytes"])),
            ("path", dataset["path"]),
            ("source", dataset["source"]),
            ("licence", dataset["licence"] or "not stated"),
            ("sha256", dataset["sha256"]),
            ("created", ago(dataset["created_at"]) if dataset["created_at"] is not None else ""),
        ]
    )


def _reference(dataset: DatasetInfo) -> str:
    return dataset["name"] if dataset["version"] is None else f"{dataset['name']}@v{dataset['version']}"
