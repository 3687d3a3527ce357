"""The benchmarks are run by hand: what one takes from another must at least be there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

_DIRECTORY = Path(__file__).parents[2] / "benchmarks"
_SCRIPTS = {path.stem: path for path in sorted([*_DIRECTORY.glob("*.py"), *(_DIRECTORY / "gpu").glob("*.py")])}


def names_in(path: Path) -> set[str]:
    """What a module has at its top level."""
    found: set[str] = set()
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        else:
            found |= {name.id for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)}
    return found


@pytest.mark.parametrize("script", _SCRIPTS.values(), ids=list(_SCRIPTS))
def test_what_a_benchmark_takes_from_another_is_there(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.module in _SCRIPTS:
            assert {alias.name for alias in node.names} <= names_in(_SCRIPTS[node.module]), f"{script.name} line {node.lineno}"
