"""`models lineage`: what a model was made from, as a tree of indented lines."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from llmops_tui.commands.connect import connect
from llmops_tui.commands.names import reference_from
from llmops_tui.commands.output import number, one_line, print_json

if TYPE_CHECKING:
    from llmops_tui.specs.lineage import LineageData, LineageNode

_SHORT = 12


def lineage(args: argparse.Namespace) -> int:
    """The tree, the model itself first."""
    tree = connect(args).lineage(reference_from(args.reference))
    if args.json:
        print_json(tree)
        return 0
    for line in lineage_lines(tree):
        print(one_line(line))
    return 0


def lineage_lines(node: LineageNode, depth: int = 0) -> Iterator[str]:
    """A line for the model, a few for what is known of it, then its parents, each level indented by four."""
    indent = "    " * depth
    role = f"{node['role']}: " if node["role"] else ""
    weight = "" if node["weight"] is None else f" x {node['weight']:g}"
    made = node["how"] + (f" ({node['run']})" if node["run"] else "")
    yield f"{indent}{role}{node['reference']}{weight}  {node['format'] or 'unknown'}, {made}"
    facts = [
        ("path", node["path"] if node["path"] != node["reference"] else ""),
        ("sha256", node["sha256"][:_SHORT]),
        ("licence", _licence(node)),
        ("template", node["template_sha256"][:_SHORT]),
        *(("data", _data(rows)) for rows in node["data"]),
        *(("problem", problem) for problem in node["problems"]),
    ]
    for name, value in facts:
        if value:
            yield f"{indent}  {name:<8}  {value}"
    for parent in node["parents"]:
        yield from lineage_lines(parent, depth + 1)


def _licence(node: LineageNode) -> str:
    if node["licence"]:
        return node["licence"]
    inherited = " and ".join(node["licence_from_parents"])
    return f"not stated; {inherited} above it" if inherited else "not stated"


def _data(rows: LineageData) -> str:
    name = f"{rows['name']}@v{rows['version']}" if rows["version"] else rows["path"]
    count = "" if rows["rows"] is None else f", {number(rows['rows'])} rows"
    digest = f", {rows['sha256'][:_SHORT]}" if rows["sha256"] else ""
    return f"{name} ({rows['role']}{count}{digest}{', ' + rows['licence'] if rows['licence'] else ''})"
