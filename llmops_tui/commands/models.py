"""`models list|show|import`."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from llmops_tui.commands.connect import connect
from llmops_tui.commands.names import name_from_path, reference_from
from llmops_tui.commands.output import ago, number, print_fields, print_json, print_table, say, size
from llmops_tui.commands.quantized import card_lines

if TYPE_CHECKING:
    from llmops_tui.specs.answers import ModelInfo


def list_models(args: argparse.Namespace) -> int:
    """Registered versions and directories found on this disk."""
    models = connect(args).models()
    if args.json:
        print_json(models)
        return 0
    if not models:
        say("no models; `llmops-tui models import DIR` registers one")
        return 0
    rows = [
        [_reference(model), model["format"], model["architecture"], number(model["parameters"]), size(model["bytes"]),
         model["source"], model["licence"] or "-", "; ".join(model["problems"])[:60]]
        for model in models
    ]  # fmt: skip
    print_table(["MODEL", "FORMAT", "ARCHITECTURE", "PARAMETERS", "SIZE", "SOURCE", "LICENCE", "PROBLEMS"], rows, right=[3, 4])
    return 0


def show(args: argparse.Namespace) -> int:
    """One model version."""
    _print_model(connect(args).model(reference_from(args.reference)), args.json)
    return 0


def import_model(args: argparse.Namespace) -> int:
    """Register a directory where it lies. The engine refuses one without weights."""
    path = os.path.abspath(os.path.expanduser(args.path))
    _print_model(connect(args).import_model(path, args.name or name_from_path(path), args.licence), args.json)
    return 0


def _print_model(model: ModelInfo, as_json: bool) -> None:
    if as_json:
        print_json(model)
        return
    print_fields(
        [
            ("model", _reference(model)),
            ("aliases", ", ".join(model["aliases"])),
            ("format", model["format"] + ("" if model["complete"] else " (incomplete)")),
            ("architecture", model["architecture"]),
            ("parameters", number(model["parameters"])),
            ("dtype", model["dtype"]),
            ("context", "" if model["context_length"] is None else f"{number(model['context_length'])} tokens"),
            ("size", size(model["bytes"])),
            ("path", model["path"]),
            ("source", model["source"]),
            ("base", model["base"]),
            ("run", model["run"]),
            ("licence", model["licence"] or "not stated"),
            ("sha256", model["sha256"]),
            ("created", ago(model["created_at"]) if model["created_at"] is not None else ""),
            *((check["name"], f"{check['verdict']}: {check['words']}") for check in model["checks"]),
            *card_lines(model.get("card") or {}),  # an engine of before tells none
            *(("problem", problem) for problem in model["problems"]),
        ]
    )


def _reference(model: ModelInfo) -> str:
    return model["name"] if model["version"] is None else f"{model['name']}@v{model['version']}"
