"""How long recorded requests are kept: by age and by size, each endpoint as its spec says. Text goes first, then the records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import duckdb

# What a record takes in the database (benchmarks/recorded_requests.py measures it).
RECORD_BYTES = 100
_DAY_SECONDS = 86_400.0
_SLICES = 1000


@dataclass(frozen=True)
class Keeping:
    """`keep_bytes` of 0 keeps no text, and records by their age alone."""

    keep_days: float
    keep_bytes: int


@dataclass(frozen=True)
class Cut:
    """What began before these moments goes, Unix seconds."""

    texts: float
    requests: float


@dataclass
class Expired:
    """How many rows went."""

    texts: int = 0
    requests: int = 0
    feedback: int = 0


def remember(con: duckdb.DuckDBPyConnection, rules: Mapping[str, Keeping]) -> dict[str, Keeping]:
    """Note what the specs say now; the rules of all endpoints there ever were. Call it in a write transaction."""
    rows = con.execute("SELECT endpoint, keep_days, keep_bytes FROM request_keeping").fetchall()
    known = {endpoint: Keeping(days, size) for endpoint, days, size in rows}
    for endpoint, rule in rules.items():
        if known.get(endpoint) != rule:
            con.execute("DELETE FROM request_keeping WHERE endpoint = ?", [endpoint])
            con.execute("INSERT INTO request_keeping VALUES (?, ?, ?)", [endpoint, rule.keep_days, rule.keep_bytes])
    return {**known, **rules}


def find_cuts(con: duckdb.DuckDBPyConnection, rules: Mapping[str, Keeping], usual: Keeping, now: float) -> dict[str, Cut]:
    """Of each endpoint that has too much. `usual` is for endpoints that no spec was ever read of. A pure read."""
    found = con.execute("SELECT endpoint, min(t) FROM requests GROUP BY endpoint").fetchall()
    oldest = dict(con.execute("SELECT endpoint, min(t) FROM request_texts GROUP BY endpoint").fetchall())
    begun: dict[str, float] = dict(found)
    cuts = {}
    for endpoint in {*begun, *oldest}:
        rule = rules.get(endpoint, usual)
        by_age = now - rule.keep_days * _DAY_SECONDS
        cut = Cut(by_age, by_age)
        if rule.keep_bytes == 0:
            cut = Cut(math.inf, by_age)
        else:
            counted = con.execute("SELECT count(*) FROM requests WHERE endpoint = ? AND t >= ?", [endpoint, by_age]).fetchone()
            records = RECORD_BYTES * (counted[0] if counted else 0)
            by_size = _cut(con, "request_texts", "sum(bytes)", endpoint, by_age, rule.keep_bytes - records)
            cut = Cut(by_size, by_age)
            if records > rule.keep_bytes:
                cut = Cut(math.inf, _cut(con, "requests", "count(*)", endpoint, by_age, rule.keep_bytes // RECORD_BYTES))
        if oldest.get(endpoint, math.inf) < cut.texts or begun.get(endpoint, math.inf) < cut.requests:
            cuts[endpoint] = cut
    return cuts


def expire(con: duckdb.DuckDBPyConnection, cuts: Mapping[str, Cut], oldest_feedback: float) -> Expired:
    """Delete what lies before the cuts, with what was said of it. Call it in a write transaction.

    Feedback from before `oldest_feedback` goes where its request is not known.
    """
    expired = Expired()
    for endpoint, cut in cuts.items():
        before = [endpoint, cut.requests]
        expired.texts += _delete(con, "request_texts WHERE endpoint = ? AND t < ?", [endpoint, cut.texts])
        expired.feedback += _delete(con, "feedback WHERE id IN (SELECT id FROM requests WHERE endpoint = ? AND t < ?)", before)
        expired.requests += _delete(con, "requests WHERE endpoint = ? AND t < ?", before)
    if con.execute("SELECT count(*) FROM feedback WHERE t < ?", [oldest_feedback]).fetchall() != [(0,)]:
        expired.feedback += _delete(con, "feedback WHERE t < ? AND id NOT IN (SELECT id FROM requests)", [oldest_feedback])
    return expired


def _cut(con: duckdb.DuckDBPyConnection, table: str, measure: str, endpoint: str, since: float, room: int) -> float:
    """From when on what is there fits into `room`, found by sums of slices of time, and of the slice where it becomes too much."""
    row = con.execute(f"SELECT min(t), max(t) FROM {table} WHERE endpoint = ? AND t >= ?", [endpoint, since]).fetchone()
    if row is None or row[0] is None:
        return since
    low, high = float(row[0]), math.nextafter(float(row[1]), math.inf)
    cut = since
    for _ in range(2):
        width = (high - low) / _SLICES or 1.0
        sums = con.execute(
            f"SELECT floor((t - $low) / $width) AS slice, {measure} FROM {table} WHERE endpoint = $endpoint AND t >= $low AND t < $high "
            "GROUP BY slice ORDER BY slice DESC",
            {"low": low, "width": width, "endpoint": endpoint, "high": high},
        ).fetchall()
        for number, amount in sums:
            if amount > room:
                cut = high = min(high, low + (number + 1) * width)
                low = low + number * width
                break
            room -= amount
        else:
            return cut
    return cut


def _delete(con: duckdb.DuckDBPyConnection, which: str, values: list[object]) -> int:
    row = con.execute(f"DELETE FROM {which}", values).fetchone()
    return int(row[0]) if row else 0
