"""The rewards of a grpo run, checked before it is queued. A user's file is read and never run: that is the job's, as its user."""

from __future__ import annotations

import ast
import hashlib
import os
from pathlib import Path
from typing import Any

from llmops_tui.data.final_answer import number_in
from llmops_tui.data.judged import parse_row
from llmops_tui.data.rows import RowError, read_rows
from llmops_tui.engine.preflight_checks import field_error, not_found
from llmops_tui.errors import UsageError
from llmops_tui.specs.train_grpo import GrpoChoice, function_place

_GIVEN = ("completion", "answer", "prompt", "row")


def prepare_rewards(choice: GrpoChoice, dataset: dict[str, Any], cwd: Path) -> list[dict[str, str]]:
    """`{"reward", "path", "sha256"}` of each function of the user's. `dataset` is the run's record of it.

    Raises NotFoundError or UsageError at `grpo.rewards`; RowError where `numeric` meets an answer without a number.
    """
    if "numeric" in choice.rewards:
        _require_numbers(Path(dataset["path"]), dataset["format"])
    found: list[dict[str, str]] = []
    for number, reward in enumerate(choice.rewards):
        place = function_place(reward)
        if place is not None:
            path = Path(os.path.abspath(cwd / Path(place.path).expanduser()))
            content = _content(f"grpo.rewards.{number}", path)
            _check_function(f"grpo.rewards.{number}", path, content, place.function)
            found.append({"reward": reward, "path": str(path), "sha256": hashlib.sha256(content).hexdigest()})
    return found


def _content(field: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise not_found(field, f"{path}: {error.strerror}", "name a Python file, as path/to/file.py:function") from None


def _check_function(field: str, path: Path, content: bytes, name: str) -> None:
    """As far as reading tells: that it is Python, that it has the function, and that the function asks for what is given."""
    try:
        tree = ast.parse(content, str(path))
    except (SyntaxError, ValueError) as error:
        line = f" line {error.lineno}:" if isinstance(error, SyntaxError) and error.lineno else ""
        raise field_error(field, f"{path}:{line} not valid Python: {getattr(error, 'msg', error)}", "correct the file") from None
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    function = functions.get(name)
    if isinstance(function, ast.AsyncFunctionDef):
        raise field_error(field, f"{path}:{name} is async", "make it a plain function")
    if function is None:
        if name in _other_names(tree):
            return  # bound by an import or an assignment: the job looks at it before it loads the model
        raise field_error(field, f"{path} has no function {name}", f"it has: {', '.join(functions) or 'none'}")
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args]
    required = [argument.arg for argument in named[: len(named) - len(arguments.defaults)]]
    required += [argument.arg for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if default is None]
    if strange := [argument for argument in required if argument not in _GIVEN]:
        raise field_error(field, f"{path}:{name} asks for {', '.join(strange)}, which is not given", f"use any of: {', '.join(_GIVEN)}")
    known = {argument.arg for argument in (*named, *arguments.kwonlyargs)}
    if "completion" not in known and arguments.kwarg is None:
        raise field_error(field, f"{path}:{name} does not ask for the completion", "give it a parameter named completion")


def _other_names(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names.update((alias.asname or alias.name).partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.ClassDef):
            names.add(node.name)
    return names


def _require_numbers(path: Path, row_format: str) -> None:
    for number, row in read_rows(path):
        parsed = parse_row(row, row_format, number)
        if isinstance(parsed, list) and number_in(parsed[-1]["content"]) is None:
            error = RowError(number, "the answer holds no number, which the reward numeric compares")
            raise UsageError(f"{path}: {error.message}", "use the reward exact, or other rows", error.fields)
