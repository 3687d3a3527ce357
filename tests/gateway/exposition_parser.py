"""Prometheus' text format 0.0.4, read strictly and apart from our own writer: what its documentation says, and nothing forgiven."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_COMMENT = re.compile(rf"# (HELP|TYPE) ({_NAME}) (.+)")
_SAMPLE = re.compile(rf"({_NAME})(?:\{{(.*)\}})? (\S+)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
_SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
Labels = tuple[tuple[str, str], ...]


@dataclass
class Family:
    kind: str
    help: str
    samples: dict[tuple[str, Labels], float] = field(default_factory=dict)


def parse(page: str) -> dict[str, Family]:
    """Families by name. Raises AssertionError for what a scraper could stumble over."""
    assert page.endswith("\n"), "the last line must end"
    families: dict[str, Family] = {}
    name, current = "", Family("", "")
    for line in page[:-1].split("\n"):
        if line.startswith("#"):
            found = _COMMENT.fullmatch(line)
            assert found, line
            word, about, text = found.groups()
            if word == "HELP":
                assert about not in families, f"{about} comes twice"
                name, current = about, Family("", text)
                families[name] = current
            else:
                assert about == name, f"{about}: its HELP does not stand before its TYPE"
                assert text in _SUFFIXES, line
                assert not current.samples
                current.kind = text
            continue
        found = _SAMPLE.fullmatch(line)
        assert found, line
        sample, raw_labels, raw_value = found.groups()
        assert sample in {name + suffix for suffix in _SUFFIXES[current.kind]}, f"{sample} stands under {name}"
        labels = _labels(raw_labels or "")
        value = float(raw_value)
        assert (sample, labels) not in current.samples, f"twice: {line}"
        assert current.kind == "gauge" or value >= 0, line
        assert current.kind != "counter" or sample.endswith("_total"), f"a counter's name ends in _total: {sample}"
        current.samples[sample, labels] = value
    for name, family in families.items():
        if family.kind == "histogram":
            _check_histogram(name, family)
    return families


def _labels(raw: str) -> Labels:
    labels: list[tuple[str, str]] = []
    at = 0
    while at < len(raw):
        found = _LABEL.match(raw, at)
        assert found, raw
        labels.append((found[1], re.sub(r"\\(.)", lambda escape: {"n": "\n"}.get(escape[1], escape[1]), found[2])))
        at = found.end()
    assert len({name for name, _ in labels}) == len(labels), raw
    return tuple(sorted(labels))


def _check_histogram(name: str, family: Family) -> None:
    """Buckets are cumulative and end in +Inf, which equals the count."""
    series: dict[Labels, list[tuple[float, float]]] = {}
    for (sample, labels), value in family.samples.items():
        if sample == f"{name}_bucket":
            bound = dict(labels)["le"]
            rest = tuple(pair for pair in labels if pair[0] != "le")
            series.setdefault(rest, []).append((float(bound), value))
    for labels, buckets in series.items():
        bounds = [bound for bound, _ in buckets]
        counts = [count for _, count in buckets]
        assert bounds == sorted(bounds), (name, bounds)
        assert bounds[-1] == math.inf
        assert counts == sorted(counts), (name, counts)
        assert family.samples[f"{name}_count", labels] == counts[-1]
        assert (f"{name}_sum", labels) in family.samples
    assert len(family.samples) == sum(len(buckets) + 2 for buckets in series.values())
