"""`runs pick`, and the table of a quantize run's forms that `runs show` and the console draw."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmops_tui.commands.connect import connect
from llmops_tui.commands.output import MISSING, print_json, size
from llmops_tui.specs.quantize_front import described_change

if TYPE_CHECKING:
    from llmops_tui.specs.answers import RunDetail

HEAD = ("", "TYPE", "SIZE", "PERPLEXITY", "CHANGE", "KL", "SAME", "TOKENS/S", "TTFT", "MEMORY", "MODEL")


def pick(args: argparse.Namespace) -> int:
    """Register one form; the version's name on stdout."""
    info = connect(args).pick(args.run, args.type, remove_others=args.remove_others)
    if args.json:
        print_json(info)
    else:
        print(f"{info['name']}@v{info['version']}")
    return 0


def forms_of(detail: RunDetail) -> list[dict[str, Any]]:
    """The cards a quantize run told at its end; empty for another run."""
    found = (detail.get("outcome") or {}).get("candidates") if detail["kind"] == "quantize" else None
    return [card for card in found if isinstance(card, dict)] if isinstance(found, list) else []


def picks_of(detail: RunDetail) -> dict[str, str]:
    """Which forms have a name, by their type; a form whose files were removed has the empty one."""
    found: dict[str, str] = {}
    for entry in detail["journal"]:
        if entry["entry"] == "pick":
            found.update(dict.fromkeys(entry["data"].get("removed") or (), ""))
            found[str(entry["data"].get("type"))] = str(entry["data"].get("model", ""))
    return found


def cells_of(card: Mapping[str, Any], picks: Mapping[str, str], alone: bool) -> list[str]:
    """One form as HEAD has it. `*`: no other form beats it in everything."""
    word = str(card.get("type"))
    model = picks.get(word, str(card.get("name", "")) if alone else MISSING)
    return [
        "*" if card.get("on_front") else "", word, size(card.get("bytes")), _number(card.get("perplexity"), ".3f"), described_change(card),
        _number(card.get("mean_kl"), ".2e"), _percent(card.get("same_choice")), _number(card.get("tokens_per_second"), ".1f"),
        _seconds(card.get("ttft_seconds")), size(card.get("memory_bytes")), model or "removed",
    ]  # fmt: skip


def forms_table(detail: RunDetail) -> tuple[Sequence[str], list[list[str]]]:
    """Head and rows; no rows for another run."""
    picks, alone = picks_of(detail), not (detail.get("outcome") or {}).get("to_pick")
    return HEAD, [cells_of(card, picks, alone) for card in forms_of(detail)]


def card_lines(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A version's card as `(name, words)`; empty for one that has none."""
    if not card:
        return []
    source = _number(card.get("perplexity_source"), ".3f")
    lines = [
        ("quantized to", str(card.get("type"))),
        ("made by", str(card.get("made_by", ""))),
        ("size", f"{size(card.get('bytes'))}, its source {size(card.get('bytes_source'))}"),
    ]
    if card.get("perplexity") is not None:
        lines += [
            ("perplexity", f"{source} before, {_number(card['perplexity'], '.3f')} after ({described_change(card)})"),
            ("KL divergence", f"mean {_number(card.get('mean_kl'), '.2e')}, greatest {_number(card.get('max_kl'), '.2e')} nats a token"),
            (
                "same first choice",
                f"{_percent(card.get('same_choice'))} of {card.get('tokens', 0):,} tokens, {card.get('rows', 0):,} rows",
            ),
            ("compared on", str(card.get("rows_from", ""))),
            ("heard by", str(card.get("heard_by", ""))),
        ]
    if card.get("tokens_per_second") is not None:
        lines += [
            ("speed", f"{_number(card['tokens_per_second'], '.1f')} tokens/s, first token after {_seconds(card.get('ttft_seconds'))}"),
            ("memory", f"{size(card.get('memory_bytes'))} while answering"),
            ("timed on", str(card.get("speed_by", ""))),
        ]
    lines += [
        (f"{row.get('tensor')}", f"{row.get('type')} × {row.get('count')}, {size(row.get('bytes'))}") for row in card.get("mix") or ()
    ]
    return lines


def _number(value: Any, form: str) -> str:
    return format(value, form) if isinstance(value, int | float) else MISSING


def _percent(value: Any) -> str:
    return f"{value:.1%}" if isinstance(value, int | float) else MISSING


def _seconds(value: Any) -> str:
    return MISSING if not isinstance(value, int | float) else f"{value * 1000:.0f} ms" if value < 10 else f"{value:.1f} s"
