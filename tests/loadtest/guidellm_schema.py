"""The shape of guidellm's report: read from guidellm's own source into a small file, and a value held against it.

    pip download guidellm==0.8.1 --no-deps -d DIR && python -m tests.loadtest.guidellm_schema DIR/guidellm-0.8.1-py3-none-any.whl

writes guidellm_0_8_1.json beside this. Nothing of guidellm is imported, which would bring torch along: its classes are read as text.
Only the classes that a report of ours has are kept: of each its fields, their annotations, and whether they must be there.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCHEMA = Path(__file__).with_name("guidellm_0_8_1.json")
ROOT = "GenerativeBenchmarksReport"
_PLAIN: dict[str, tuple[type, ...]] = {
    "str": (str,), "Path": (str,), "int": (int,), "PositiveInt": (int,), "NonNegativeInt": (int,), "bool": (bool,),
    "float": (int, float), "PositiveFloat": (int, float), "NonNegativeFloat": (int, float), "None": (type(None),), "Any": (object,),
}  # fmt: skip
_KEPT = (
    ROOT, "GenerativeBenchmarkMetadata", "BenchmarkScenario", "BenchmarkMetadata", "BenchmarkArgs", "GenerativeBenchmark",
    "BenchmarkConfig",
    "BackendArgs", "OpenAIHTTPBackendArgs", "DataArgs", "SyntheticTextDataArgs", "FileDataArgs", "ProfileArgs", "ConcurrentProfileArgs",
    "AsyncProfileArgs", "ReplayProfileArgs", "SchedulingStrategy", "SynchronousStrategy", "ConcurrentStrategy", "AsyncConstantStrategy",
    "AsyncPoissonStrategy", "TraceReplayStrategy", "SchedulerState", "SchedulerMetrics", "GenerativeMetrics", "GenerativeMetricsSummary",
    "GenerativeTextMetricsSummary", "GenerativeImageMetricsSummary", "GenerativeVideoMetricsSummary", "GenerativeAudioMetricsSummary",
    "GenerativeToolCallMetricsSummary", "DistributionSummary", "Percentiles", "GenerativeRequestStats", "RequestInfo", "RequestTimings",
    "UsageMetrics",
)  # fmt: skip
Classes = dict[str, dict[str, Any]]


# --- reading guidellm's source ---


def extract(wheel: Path) -> dict[str, Any]:
    """The schema of the report that this wheel writes."""
    classes: Classes = {}
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".py"):
                for node in ast.walk(ast.parse(archive.read(name))):
                    if isinstance(node, ast.ClassDef):
                        classes.setdefault(node.name, _class(node, name))
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return {"source": f"{wheel.name} of the Python package index, sha256 {digest}", "classes": {name: classes[name] for name in _KEPT}}


def _class(node: ast.ClassDef, file: str) -> dict[str, Any]:
    fields = {}
    for part in node.body:
        if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
            annotation = ast.unparse(part.annotation)
            if not annotation.startswith("ClassVar") and not part.target.id.startswith("_"):
                fields[part.target.id] = {"type": annotation, "required": _is_required(part.value)}
    computed = [
        part.name
        for part in node.body
        if isinstance(part, ast.FunctionDef) and any("computed_field" in ast.unparse(mark) for mark in part.decorator_list)
    ]
    return {"file": file, "bases": [ast.unparse(base) for base in node.bases], "fields": fields, "computed": computed}


def _is_required(value: ast.expr | None) -> bool:
    if value is None:
        return True
    if not (isinstance(value, ast.Call) and getattr(value.func, "id", "") == "Field"):
        return False
    given = {keyword.arg for keyword in value.keywords}
    first = value.args[0] if value.args else None
    return not {"default", "default_factory"} & given and (first is None or (isinstance(first, ast.Constant) and first.value is ...))


# --- holding a value against it ---


def faults(value: object, classes: Classes) -> list[str]:
    """What of a whole report is not as guidellm has it, each with its place."""
    return list(_of_class(value, ROOT, classes, "report"))


def _of_class(value: object, name: str, classes: Classes, at: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{at}: {value!r} is no {name}"
        return
    name = _variant(value, name, classes)
    fields = _fields(name, classes)
    for field, told in fields.items():
        if field in value:
            yield from _of_type(value[field], told["type"], classes, f"{at}.{field}")
        elif told["required"]:
            yield f"{at}.{field} is missing"
    known = {*fields, *classes[name]["computed"]}
    yield from (f"{at}.{field}: {name} has no such field" for field in value if field not in known)


def _variant(value: dict[str, Any], name: str, classes: Classes) -> str:
    """The heir that the value's `type_` or `kind` names, of classes that have such."""
    for word in ("type_", "kind"):
        for heir, each in classes.items():
            told = each["fields"].get(word)
            if name in each["bases"] and told is not None and repr(value.get(word)) in told["type"]:
                return heir
    return name


def _fields(name: str, classes: Classes) -> dict[str, Any]:
    """Inherited ones first."""
    found: dict[str, Any] = {}
    for base in classes[name]["bases"]:
        if (plain := base.partition("[")[0]) in classes:
            found |= _fields(plain, classes)
    return found | classes[name]["fields"]


def _of_type(value: object, annotation: str, classes: Classes, at: str) -> Iterator[str]:
    choices = _split(annotation, "|")
    if len(choices) > 1:
        told = [list(_of_type(value, choice, classes, at)) for choice in choices]
        if all(told):
            yield from min(told, key=len)
        return
    outer, _, inner = annotation.partition("[")
    parts = _split(inner.removesuffix("]"), ",")
    if outer == "Literal":
        if repr(value) not in parts:
            yield f"{at}: {value!r} is none of {', '.join(parts)}"
    elif outer == "list":
        if isinstance(value, list):
            for number, each in enumerate(value):
                yield from _of_type(each, parts[0], classes, f"{at}[{number}]")
        else:
            yield f"{at}: {value!r} is no list"
    elif outer == "dict":
        if not isinstance(value, dict):
            yield f"{at}: {value!r} is no table"
    elif outer in ("StatusBreakdown", "StatusDistributionSummary"):
        yield from _of_breakdown(value, parts if inner else ["DistributionSummary"] * 4, classes, at)
    elif outer in classes:
        yield from _of_class(value, outer, classes, at)
    elif outer in _PLAIN:
        if not isinstance(value, _PLAIN[outer]) or (isinstance(value, bool) and outer not in ("bool", "Any")):
            yield f"{at}: {value!r} is no {outer}"
        elif outer.startswith("Positive") and not value > 0:  # type: ignore[operator]
            yield f"{at}: {value!r} must be above 0"
    else:
        yield f"{at}: {annotation} is not known here"


def _of_breakdown(value: object, types: list[str], classes: Classes, at: str) -> Iterator[str]:
    names = ("successful", "errored", "incomplete", "total")
    if not isinstance(value, dict) or set(value) != set(names):
        yield f"{at}: must have {', '.join(names)}"
        return
    for name, annotation in zip(names, types, strict=True):
        yield from _of_type(value[name], annotation, classes, f"{at}.{name}")


def _split(text: str, mark: str) -> list[str]:
    """At the marks outside of brackets."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == mark and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(extract(Path(sys.argv[1])), indent=1) + "\n")
