"""What a fine-tune will take, in one line or part by part: for the form while it is filled in, and for a run's page. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from textwrap import wrap
from typing import TYPE_CHECKING

from llmops_tui.screens.run_cells import cost_text, energy_text
from llmops_tui.screens.widgets.axes import bytes_text, duration_text
from llmops_tui.screens.widgets.lines import Run
from llmops_tui.screens.widgets.table import Row

if TYPE_CHECKING:
    from llmops_tui.specs.answers import EstimateAnswer

_SIGNS: dict[str, tuple[str, str, str]] = {
    "yes": ("✓", "fits", "good"), "maybe": ("○", "may not fit", "warn"), "no": ("✗", "does not fit", "bad"), "unknown": (" ", "", "muted"),
}  # fmt: skip
_BAR = 16
_AS_PREDICTED = 0.005


def fit_line(found: EstimateAnswer, width: int) -> list[Run]:
    """As much as one line holds, what decides first: memory with its band, time, tokens, the largest batch."""
    sign, words, role = _SIGNS.get(found["fits"], _SIGNS["unknown"])
    capacity = f" of {bytes_text(found['capacity_bytes'])}" if found["capacity_bytes"] is not None else ""
    parts = [f"{words} {_peak(found)}{capacity}".strip()]
    if found["seconds"] is not None:
        parts.append(_time(found))
    parts += [words for words in (_largest(found), _count(found["tokens"], "tokens")) if words]
    line = f" {sign} {parts[0]}"
    for part in parts[1:]:
        if len(line) + 3 + len(part) <= width:
            line += f" · {part}"
    return [(line[: max(0, width)], role)]


def fit_lines(found: EstimateAnswer, currency: str, width: int) -> list[list[Run]]:
    """Every figure with its band, then the memory part by part, the largest first; what they are based on last."""
    sign, words, role = _SIGNS.get(found["fits"], _SIGNS["unknown"])
    capacity = f" of {bytes_text(found['capacity_bytes'])}" if found["capacity_bytes"] is not None else ""
    told: list[Run] = [
        (f"{sign} {words} {found['device_name']}{capacity}".replace("  ", " "), role),
        (f"memory {_peak(found)}", "bright"),
    ]
    if found["seconds"] is not None:
        told.append((f"time {_time(found)}", "text"))
    money = [text for text in (_energy(found), _cost(found, currency)) if text]
    told += [(" · ".join(money), "text")] if money else []
    told.append((" · ".join(words for words in (_count(found["steps"], "steps"), _count(found["tokens"], "tokens")) if words), "text"))
    told.append((f"{found['parameters']:,} parameters, {found['trainable']:,} trained", "text"))
    told += [(words, "text") for words in (_largest(found), f"disk {bytes_text(found['disk_bytes'])}") if words]
    lines: list[list[Run]] = [[(f" {line}", role)] for text, role in told if text for line in wrap(text, max(8, width - 2))]
    lines += part_lines(found["parts"], width)
    return lines + [[(f" {line}", "muted")] for line in wrap(found["basis"], max(8, width - 2))]


def part_lines(parts: Mapping[str, int], width: int) -> list[list[Run]]:
    """A bar a part, the largest first."""
    whole = sum(parts.values()) or 1
    room = max(0, min(_BAR, width - 26))
    lines: list[list[Run]] = []
    for name, size in sorted(parts.items(), key=lambda part: -part[1]):
        filled = round(room * size / whole)
        lines.append([(f" {name:<12}{bytes_text(size):>9} ", "text"), ("█" * filled, "accent"), ("·" * (room - filled), "faint")])
    return lines


def fit_rows(predicted: Mapping[str, object] | None, measured: Mapping[str, object] | None) -> list[Row]:
    """`memory_rows` as a table's."""
    rows = memory_rows(predicted, measured) if predicted else []
    return [Row(name, ((name, "muted"), (value, "text"))) for name, value in rows]


def memory_rows(predicted: Mapping[str, object], measured: Mapping[str, object] | None) -> list[tuple[str, str]]:
    """A run's predicted beside what it took: (what, value), for its page."""
    rows = [("predicted peak", _band(predicted, "memory", bytes_text))]
    rows += _beside("measured peak", measured, "memory_bytes", predicted.get("memory_bytes"), bytes_text)
    rows += [("predicted time", _band(predicted, "seconds", duration_text))] if _number(predicted.get("seconds")) is not None else []
    rows += _beside("measured time", measured, "seconds", predicted.get("seconds"), duration_text)
    rows += [("fits", str(predicted.get("fits", "")))]
    parts = predicted.get("parts")
    if isinstance(parts, Mapping):
        rows += [
            (f"  {name}", bytes_text(_number(size))) for name, size in sorted(parts.items(), key=lambda part: -(_number(part[1]) or 0.0))
        ]
    return [*rows, ("basis", str(predicted.get("basis", "")))]


def _beside(
    name: str, measured: Mapping[str, object] | None, key: str, predicted: object, text: Callable[[float | None], str]
) -> list[tuple[str, str]]:
    value, told = _number((measured or {}).get(key)), _number(predicted)
    if value is None:
        return []
    return [(name, text(value) + _off(told, value))]


def _off(predicted: float | None, measured: float) -> str:
    """How far the prediction was from what came, in words."""
    if predicted is None or not measured:
        return ""
    share = (predicted - measured) / measured
    return " (as predicted)" if abs(share) < _AS_PREDICTED else f" (predicted {abs(share):.0%} too {'high' if share > 0 else 'low'})"


def _band(predicted: Mapping[str, object], name: str, text: Callable[[float | None], str]) -> str:
    middle = _number(predicted.get("memory_bytes" if name == "memory" else name))
    low, high = _number(predicted.get(f"{name}_low")), _number(predicted.get(f"{name}_high"))
    return f"{text(middle)} ({text(low)} to {text(high)})"


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _peak(found: EstimateAnswer) -> str:
    return f"{bytes_text(found['memory_bytes'])} ({bytes_text(found['memory_low'])} to {bytes_text(found['memory_high'])})"


def _time(found: EstimateAnswer) -> str:
    return f"{duration_text(found['seconds'])} ({duration_text(found['seconds_low'])} to {duration_text(found['seconds_high'])})"


def _largest(found: EstimateAnswer) -> str:
    batch, length = found["largest_micro_batch"], found["largest_max_length"]
    if batch is None or length is None:
        return ""
    return "no batch fits" if batch == 0 else f"fits up to batch {batch:,} or length {length:,}"


def _count(count: int | None, noun: str) -> str:
    return "" if count is None else f"{count:,} {noun}"


def _energy(found: EstimateAnswer) -> str:
    return "" if found["energy_joules"] is None else energy_text(found["energy_joules"])


def _cost(found: EstimateAnswer, currency: str) -> str:
    return "" if found["cost"] is None else cost_text(found["cost"], currency)
