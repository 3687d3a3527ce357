"""`runs logs|metrics|export`: what a run wrote."""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from typing import IO, Any

from llmops_tui.client import Client
from llmops_tui.commands.connect import connect
from llmops_tui.commands.log_grep import grep
from llmops_tui.commands.output import number, print_json, print_json_line, print_table, say
from llmops_tui.errors import EngineUnavailableError, LlmopsError, NotFoundError, UsageError
from llmops_tui.specs.states import ENDED

_CHUNK_BYTES = 1 << 18
_LINE_GUESS_BYTES = 256
_POLL_SECONDS = 0.5
_PAGE_ROWS = 50_000
_COLUMNS = ("metric", "step", "t", "value", "attempt")


def logs(args: argparse.Namespace) -> int:
    """Copy the run's output to stdout as it is, or the lines that match; with `--json` one object a line of it."""
    if args.grep is None and (args.ignore_case or args.regex or args.context):
        raise UsageError("-i, --regex and -C say how to search, and nothing is searched for", "add --grep PATTERN")
    client = connect(args)
    offset = 0 if args.tail is None else tail_offset(client, args.run, args.tail)
    if args.grep is not None:
        return grep(args, client, offset)
    write = _write_json_lines() if args.json else _write_bytes
    while True:
        # Looked at before the read: what an ended run wrote is then complete.
        over = client.run(args.run)["state"] in ENDED
        offset, grew = _copy(client, args.run, offset, write)
        if grew:
            continue
        if over or not args.follow:
            write(b"", True)
            return 0
        time.sleep(_POLL_SECONDS)


def tail_offset(client: Client, run: str, lines: int) -> int:
    """Where the last `lines` lines begin."""
    size = client.log(run, 0, 1).size
    if lines == 0:
        return size
    back = lines * _LINE_GUESS_BYTES
    while True:
        data, start = b"", max(0, size - back)
        position = start
        while position < size:
            chunk = client.log(run, position, min(_CHUNK_BYTES, size - position))
            if chunk.next_offset <= position:
                break
            if chunk.offset != position:  # rotation took what was here
                data, start = b"", chunk.offset
            data += chunk.data
            position = chunk.next_offset
        # A last line without its newline counts as a line.
        ends = [index for index, byte in enumerate(data[:-1]) if byte == 0x0A]
        if len(ends) >= lines:
            return start + ends[-lines] + 1
        if start == 0 or back >= size:
            return start
        back *= 4


def metrics(args: argparse.Namespace) -> int:
    """Newest values, or curves in buckets of the metrics named. Raises NotFoundError for a metric the run never told."""
    client = connect(args)
    detail = client.run(args.run)
    if not args.metric:
        if args.json:
            print_json(detail["latest"])
        elif detail["latest"]:
            print_table(["METRIC", "LAST"], [[name, number(value)] for name, value in sorted(detail["latest"].items())], right=[1])
        else:
            say("no metrics yet")
        return 0
    _known(args.metric, detail["metrics"], args.run)
    series = client.series(args.run, args.metric, args.points, args.step_first, args.step_last)
    if args.json:
        print_json(series)
        return 0
    for curve in series:
        print(f"{curve['metric']}  {curve['total_points']:,} points")
        rows = []
        for first, last, count, low, high, mean, newest, _ in curve["buckets"]:
            steps = number(first) if first == last else f"{number(first)}–{number(last)}"
            rows.append([steps, number(count), number(low), number(mean), number(high), number(newest)])
        print_table(["STEP", "POINTS", "MIN", "MEAN", "MAX", "LAST"], rows, right=range(6))
    return 0


def export(args: argparse.Namespace) -> int:
    """Every stored point, metric by metric. The file is made whole or not at all."""
    client = connect(args)
    detail = client.run(args.run)
    names = args.metric or detail["metrics"]
    _known(names, detail["metrics"], args.run)
    as_json = args.json or args.format == "json"
    points = _points(client, args.run, list(dict.fromkeys(names)))
    if args.output in (None, "", "-"):
        _write_points(sys.stdout, points, as_json)
        return 0
    # A device or a pipe is written to as it stands; replacing it by a file would take it away from everybody.
    in_place = os.path.exists(args.output) and not os.path.isfile(args.output)
    partial = args.output if in_place else f"{args.output}.part"
    try:
        with open(partial, "w", newline="") as file:
            count = _write_points(file, points, as_json)
        if not in_place:
            os.replace(partial, args.output)
    except OSError as error:
        _forget(partial, in_place)
        raise LlmopsError(f"{args.output}: {error.strerror or error}", "name a file in a directory you can write to, with room") from error
    except BaseException:
        _forget(partial, in_place)
        raise
    say(f"{count:,} points in {args.output}")
    return 0


def _forget(partial: str, in_place: bool) -> None:
    if not in_place and os.path.exists(partial):
        os.unlink(partial)


def _points(client: Client, run: str, names: list[str]) -> Iterator[list[Any]]:
    """Rows of `_COLUMNS`, page by page; of a running run what was stored when it was asked."""
    until = time.time()
    for name in names:
        start = 0
        while True:
            answer = client.sql(
                # As text: NaN and infinities would travel as null.
                f"SELECT metric, step, t, CAST(value AS VARCHAR), attempt FROM metrics_long"
                f" WHERE run = {_quoted(run)} AND metric = {_quoted(name)}"
                f" AND t <= {until!r} ORDER BY step, attempt, t, value LIMIT {_PAGE_ROWS} OFFSET {start}",
                _PAGE_ROWS,
            )
            yield from answer["rows"]
            start += len(answer["rows"])
            if len(answer["rows"]) < _PAGE_ROWS:
                break


def _write_points(file: IO[str], rows: Iterator[list[Any]], as_json: bool) -> int:
    count = 0
    table = csv.writer(file, lineterminator="\n")
    if not as_json:
        table.writerow(_COLUMNS)
    for row in rows:
        if as_json:
            point = dict(zip(_COLUMNS, row, strict=True))
            point["value"] = _number_for_json(row[3])
            file.write(json.dumps(point, separators=(",", ":")) + "\n")
        else:
            table.writerow(row)
        count += 1
    return count


def _number_for_json(text: str | None) -> float | str | None:
    """JSON has no NaN: those travel as the words that events.jsonl uses."""
    value = math.nan if text is None else float(text)
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _quoted(text: str) -> str:
    """A text literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def _known(asked: list[str], metrics: list[str], run: str) -> None:
    unknown = [name for name in asked if name not in metrics]
    if unknown:
        raise NotFoundError(f"{run} has no metric {unknown[0]!r}", f"it has: {', '.join(metrics) or 'none yet'}")


def _copy(client: Client, run: str, offset: int, write: Any) -> tuple[int, bool]:
    try:
        chunk = client.log(run, offset, _CHUNK_BYTES)
    except EngineUnavailableError:
        client.ensure_engine()
        return offset, True
    if chunk.offset > offset:
        say(f"[{chunk.offset - offset:,} bytes were given back to the disk here]")
    if chunk.data:
        write(chunk.data, False)
    return chunk.next_offset, chunk.next_offset > offset


def _write_bytes(data: bytes, last: bool) -> None:
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _write_json_lines() -> Any:
    rest = b""

    def write(data: bytes, last: bool) -> None:
        nonlocal rest
        *lines, rest = (rest + data).split(b"\n")
        if last and rest:
            lines, rest = [*lines, rest], b""
        for line in lines:
            print_json_line({"line": line.decode(errors="replace")})

    return write
