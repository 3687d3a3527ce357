"""`requests list|show|export`: what the gateway recorded of the requests it answered."""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from llmops_tui.commands.connect import connect
from llmops_tui.commands.moment import clock
from llmops_tui.commands.output import MISSING, number, one_line, print_fields, print_json, print_table, say
from llmops_tui.errors import LlmopsError, UsageError

if TYPE_CHECKING:
    from llmops_tui.client_serving import ServingCalls
    from llmops_tui.specs.answers_requests import RequestDetail, RequestRow

_PAGE = 1000
_TEXTS = ("prompt", "messages", "response", "redacted", "feedback")


def list_requests(args: argparse.Namespace) -> int:
    """The newest of those asked for."""
    page = connect(args).serving.requests(**_filter(args), limit=args.limit, count=args.count)
    if args.json:
        print_json(page)
        return 0
    if not page["rows"]:
        say("no request is recorded that matches")
        return 0
    now = time.time()
    print_table(
        ["WHEN", "ID", "BY", "HTTP", "TTFT", "TOTAL", "TOKENS", "NOTES"],
        [
            [
                clock(row["t"], now), row["id"], answered_by(row), str(row["status"]), milliseconds(row["ttft_ms"]),
                milliseconds(row["total_ms"]), tokens(row), notes(row),
            ]
            for row in page["rows"]
        ],
        right=range(3, 7),
    )  # fmt: skip
    if page["total"] is not None:
        say(f"{len(page['rows']):,} of {page['total']:,}")
    elif page["next"] is not None:
        say("there are more: --limit, --until, or `requests export`")
    return 0


def show(args: argparse.Namespace) -> int:
    """One request whole. Raises NotFoundError."""
    found = connect(args).serving.request(args.id)
    if args.json:
        print_json(found)
        return 0
    print_fields(facts_of(found))
    for head, words in (("prompt", found["prompt"]), ("answer", found["response"])):
        if words:
            print(f"\n--- {head}")
            print(_lines(words))
    for said in found["feedback"]:
        print(
            f"\n--- {said['rating'] or 'a remark'}, {clock(said['t'], time.time())}{' by ' + one_line(said['key']) if said['key'] else ''}"
        )
        for head, words in (("comment", said["comment"]), ("better", said["correction"])):
            if words:
                print(f"{head}: {_lines(words)}")
    if not found["row"]["has_text"]:
        say("its text was not kept: record.text_fraction of the endpoint's spec says of how many requests it is")
    return 0


def export(args: argparse.Namespace) -> int:
    """All that match, page by page, so that neither side holds them all. Raises LlmopsError where the file cannot be written."""
    serving = connect(args).serving
    found: Iterator[dict[str, Any]] = _each(serving, args)
    # What makes no sense is refused before a file is touched.
    first = list(itertools.islice(found, 1))
    found = itertools.chain(first, found)
    if not args.output:
        _write(sys.stdout, found, args.format, args.text)
        return 0
    try:
        # For its owner's eyes: there may be what people wrote in it.
        with open(args.output, "w", encoding="utf-8", newline="", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            count = _write(file, found, args.format, args.text)
    except OSError as error:
        raise LlmopsError(f"{args.output}: cannot be written: {error.strerror}", "name another file with -o") from None
    say(f"{count:,} requests written to {args.output}")
    return 0


def milliseconds(value: float | None) -> str:
    """`85ms`, `2.5s`: short enough for a table on 80 columns."""
    if value is None:
        return MISSING
    return f"{value:.3g}ms" if value < 999.5 else f"{value / 1000:.3g}s" if value < 999_500 else f"{value / 1000:.0f}s"


def tokens(row: RequestRow) -> str:
    """`43+48`: read and answered."""
    if row["prompt_tokens"] is None and row["completion_tokens"] is None:
        return MISSING
    return f"{number(row['prompt_tokens'])}+{number(row['completion_tokens'])}"


def answered_by(row: RequestRow) -> str:
    """`support@v2`, with where it came from when a fallback answered."""
    name = f"{row['endpoint'] or MISSING}{'@' + row['version'] if row['version'] else ''}"
    return f"{name} for {row['fallback_from']}" if row["fallback_from"] else name


def notes(row: RequestRow) -> str:
    """What else there is to know of it in a line: rating, retries, what went wrong."""
    words = [row["rating"]] if row["rating"] else []
    words += ["text"] if row["has_text"] else []
    words += ["mirror"] if row["mirror"] else []
    words += [f"{row['attempts']} tries"] if row["attempts"] > 1 else []
    words += [one_line(row["error"])] if row["error"] else [row["finish"]] if row["finish"] not in ("", "stop") else []
    return ", ".join(words)


def facts_of(found: RequestDetail) -> list[tuple[str, str]]:
    """What stands above the text, as `(name, words)`."""
    row = found["row"]
    times = [
        f"{name} {number(row[key])} ms"  # type: ignore[literal-required]
        for name, key in (("queue", "queue_ms"), ("first token", "ttft_ms"), ("between tokens", "itl_ms"), ("longest gap", "itl_max_ms"))
        if row[key] is not None  # type: ignore[literal-required]
    ]
    counted = f"{number(row['prompt_tokens'])} in, {number(row['completion_tokens'])} out"
    if row["cached_tokens"]:
        counted += f", {number(row['cached_tokens'])} from the cache"
    return [
        ("request", row["id"]),
        ("when", clock(row["t"], time.time())),
        ("answered by", ", ".join(filter(None, (answered_by(row), row["replica"], row["provider"])))),
        ("path", f"{one_line(row['path'])}{', streamed' if row['stream'] else ''}{', shadow traffic' if row['mirror'] else ''}"),
        ("status", f"{row['status']}{', ' + row['finish'] if row['finish'] else ''}{', within its SLO' if row['good'] else ''}"),
        ("error", one_line(row["error"])),
        ("times", ", ".join([*times, f"whole {number(row['total_ms'])} ms"])),
        ("tokens", counted + (" (an estimate: the answer was cut off)" if row["estimated"] else "")),
        ("cost", "" if row["cost"] is None else f"{row['cost']:.6g}"),
        ("tries", str(row["attempts"]) if row["attempts"] > 1 else ""),
        ("key", one_line(row["key"])),
        ("session", one_line(row["session"])),
        ("hashes", " ".join(filter(None, (row["prompt_hash"], row["response_hash"])))),
        ("redacted", f"{found['redacted']} places" if found["redacted"] else ""),
    ]


def _filter(args: argparse.Namespace) -> dict[str, Any]:
    if args.since is not None and args.until is not None and args.until < args.since:
        raise UsageError("--until is before --since", "give a later one")
    return {
        "endpoint": args.endpoint,
        "version": args.of_version,
        "status": args.status or "",
        "key": args.key,
        "slower_than_ms": args.slower_than,
        "since": args.since,
        "until": args.until,
    }


def _each(serving: ServingCalls, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every request that matches; with --text only those that have any, each with it."""
    chosen, left = _filter(args), args.limit
    before: float | None = None
    while True:
        page = serving.requests(**chosen, before=before, limit=min(_PAGE, left) if left and not args.text else _PAGE)
        for row in page["rows"]:
            if args.text and not row["has_text"]:
                continue
            detail = serving.request(row["id"]) if args.text else None
            yield {**row, **({name: detail[name] for name in _TEXTS} if detail else {})}  # type: ignore[literal-required]
            if left is not None:
                left -= 1
                if not left:
                    return
        before = page["next"]
        if before is None:
            return


def _write(file: TextIO, found: Iterator[dict[str, Any]], form: str, text: bool) -> int:
    from llmops_tui.specs.answers_requests import RequestRow

    written = 0
    writer = csv.DictWriter(file, [*RequestRow.__annotations__, *(_TEXTS if text else ())])
    if form == "csv":
        writer.writeheader()
    for row in found:
        written += 1
        if form == "csv":
            writer.writerow({name: _cell(value) for name, value in row.items()})
        else:
            file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
    return written


def _cell(value: object) -> object:
    """True and lists as in JSON, nothing for what is not known."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, bool | list | dict) else "" if value is None else value


def _lines(text: str) -> str:
    """Text as it is, but for characters that would steer the terminal."""
    return "\n".join(one_line(line) for line in text.split("\n"))
