"""A user's own reward: a function of a Python file, called once for each answer with what it asks for by name.

completion is the answer tried, answer the row's own, prompt the turns before it, row the row as it stands in the file.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import math
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from llmops_tui.errors import ConflictError, UsageError

GIVEN = ("completion", "answer", "prompt", "row")
Reward = Callable[..., object]


def load_function(path: Path, name: str, sha256: str = "") -> tuple[Reward, tuple[str, ...]]:
    """The function, and which of GIVEN it asks for. Raises UsageError or ConflictError saying what of the file is wrong."""
    where = f"{path}:{name}"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", "check grpo.rewards") from None
    if sha256 and hashlib.sha256(content).hexdigest() != sha256:
        raise ConflictError(f"{path}: changed since the run was submitted", "submit the run again with the function as it is now")
    module_spec = importlib.util.spec_from_file_location(f"llmops_reward_{path.stem}", path)
    assert module_spec is not None  # only a name without a known suffix gives None, and this one ends with .py
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        traceback.print_exc()
        raise UsageError(f"{path}: cannot be imported: {type(error).__name__}: {error}", "its traceback is in the run's log") from error
    function = getattr(module, name, None)
    if function is None:
        raise UsageError(f"{path}: has no {name}", "check grpo.rewards")
    if not callable(function):
        raise UsageError(f"{where}: is {type(function).__name__}, no function", "check grpo.rewards")
    return function, _asked_for(where, function)


def call_function(where: str, function: Reward, arguments: Mapping[str, object]) -> float:
    """The reward. Raises UsageError where the function raises, with its traceback in the log, or returns no finite number."""
    try:
        value = function(**arguments)
    except Exception as error:
        traceback.print_exc()
        raise UsageError(f"{where} raised {type(error).__name__}: {error}", "its traceback is in the run's log") from error
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return float(value)
    raise UsageError(f"{where} returned {value!r}, no finite number", "return a number for every answer")


def _asked_for(where: str, function: Reward) -> tuple[str, ...]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise UsageError(f"{where}: its parameters cannot be told", "wrap it in a function of Python") from None
    named = [parameter for parameter in parameters if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)]
    for parameter in named:
        if parameter.name not in GIVEN and parameter.default is parameter.empty:
            raise UsageError(f"{where}: asks for {parameter.name}, which is not given", f"use any of: {', '.join(GIVEN)}")
        if parameter.kind is parameter.POSITIONAL_ONLY and parameter.name in GIVEN:
            raise UsageError(f"{where}: {parameter.name} can only be given by position", "take the / out of its parameters")
    wanted = tuple(parameter.name for parameter in named if parameter.name in GIVEN)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return GIVEN
    if "completion" not in wanted:
        raise UsageError(f"{where}: does not ask for the completion", "give it a parameter named completion")
    return wanted
