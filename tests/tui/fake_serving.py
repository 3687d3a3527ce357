"""What the fake engine serves: an endpoint with a canary, one with an ill server, one asleep; their requests, latency and keys."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmops_tui.errors import ConflictError, NotFoundError, UsageError
from llmops_tui.specs.answers import Done, ServingOverview
from llmops_tui.specs.answers_requests import (
    EndpointLive,
    LatencyHistory,
    LatencyPoint,
    RequestDetail,
    RequestPage,
    RequestRow,
    VersionLive,
)
from llmops_tui.specs.answers_serving import (
    CheckedEndpoint,
    CheckedServer,
    EndpointDetail,
    EndpointSummary,
    GatewayInfo,
    ReplicaState,
    VersionState,
)
from tests.tui.fake_chat import FakeChat, FakeChatStream

URL = "http://127.0.0.1:8700/v1"
REQUESTS = 260
_DAY = 86_400.0


def version(name: str, model: str, share: float, **changes: Any) -> VersionState:
    """A version as the engine tells it; `share` of the requests."""
    values: dict[str, Any] = {
        "name": name, "model": model, "provider": "", "adapter_of": "", "weight": 100 * share, "share": share, "mirror": 0.0,
        "target_weight": None, "replicas": 1, "ready": 1, "state": "ready", "reason": "", "warm_until": None, "in_flight": 0,
        "requests": 0, "errors": 0, **changes,
    }  # fmt: skip
    return values  # type: ignore[return-value]


def replica(run: str, of: str, port: int, now: float, **changes: Any) -> ReplicaState:
    """A server as the engine tells it."""
    values: dict[str, Any] = {
        "run": run, "version": of, "state": "ready", "host": "127.0.0.1", "port": port, "runtime": "llamacpp", "context": 2048, "slots": 4,
        "adapters": [], "healthy": True, "breaker": "closed", "outstanding": 0, "cause": "", "started_at": now - 7200, **changes,
    }  # fmt: skip
    return values  # type: ignore[return-value]


def endpoint(name: str, versions: Sequence[VersionState], replicas: Sequence[ReplicaState], now: float, **changes: Any) -> EndpointSummary:
    """An endpoint as the engine tells it."""
    values: dict[str, Any] = {
        "name": name, "aliases": [], "state": "ready", "reason": "", "url": URL,
        "curl": f"curl {URL}/chat/completions -H 'content-type: application/json' "
                f'-d \'{{"model": "{name}", "messages": [{{"role": "user", "content": "Hello"}}]}}\'',
        "versions": list(versions), "replicas": list(replicas), "sticky": "none", "balance": "least_tokens", "fallbacks": [],
        "pinned": False, "on_demand": False, "idle_unload_seconds": 0.0, "last_used": now - 2, "pending": None, "previous": None,
        "owner": "ada", "revision": 4, "created_at": now - 3 * _DAY, **changes,
    }  # fmt: skip
    return values  # type: ignore[return-value]


def served(now: float) -> list[EndpointSummary]:
    """Three endpoints: a canary of 5 %, one with an ill server, one asleep."""
    support = endpoint(
        "support",
        [
            version("v3", "support@v3", 0.95, replicas=2, ready=2, in_flight=3, requests=18_211, errors=4),
            version("v4", "support@v4", 0.05, in_flight=1, requests=402),
            version("v2", "support@v2", 0.0, state="ready", warm_until=now + 420, requests=90_214, errors=31),
        ],
        [
            replica("serve-support-0061", "v3", 9001, now, outstanding=2),
            replica("serve-support-0062", "v3", 9002, now, outstanding=1),
            replica("serve-support-0070", "v4", 9003, now, outstanding=1, started_at=now - 1500),
            replica("serve-support-0055", "v2", 9004, now),
        ],
        now, previous={"v3": 100.0}, pinned=True,
    )  # fmt: skip
    code = endpoint(
        "code", [version("v1", "coder-gguf@v1", 1.0, replicas=2, ready=1, in_flight=2, requests=3_120, errors=57)],
        [
            replica("serve-code-0064", "v1", 9005, now, outstanding=2),
            replica("serve-code-0065", "v1", 9006, now, state="unhealthy", healthy=False, breaker="open",
                    cause="no answer within 5 s, twice: the process stands still"),
        ],
        now, state="degraded", reason="v1 has 1 of 2 servers", fallbacks=["support"],
    )  # fmt: skip
    faq = endpoint(
        "faq", [version("v1", "faq-q4@v1", 1.0, ready=0, state="cold", requests=77)], [], now,
        state="asleep", reason="no request for 600 s; the next one starts it", on_demand=True, idle_unload_seconds=600.0,
        last_used=now - 7400,
    )  # fmt: skip
    return [support, code, faq]


class FakeServing:
    """Like `client_serving.ServingCalls`. `kept` is what is served, `wishes` what was asked for: `(verb, name, what)`.

    `alive` fails like the engine that is lost; `slow` makes the last hour slower than the day before by so many times.
    """

    def __init__(self, alive: Callable[[], None], now: float) -> None:
        self.alive, self.now = alive, now
        self.kept: list[EndpointSummary] = []
        self.wishes: list[tuple[str, str, Any]] = []
        self.asked: list[str] = []
        self.refuses = ""
        self.slow = 1.0
        self.chats = FakeChat()
        self.slo = {"ttft_ms": 200.0, "itl_ms": 0.0, "total_ms": 4000.0}
        self.rows = [request_row(at, now) for at in range(REQUESTS)]

    def overview(self) -> ServingOverview:
        """As the status tells it."""
        states = [each["state"] for each in self.kept]
        unhealthy = sum(state in ("broken", "degraded") for state in states)
        return {"endpoints": len(states), "unhealthy": unhealthy, "asleep": states.count("asleep")}

    def runs(self) -> list[str]:
        """The servers, by their runs."""
        return [replica["run"] for each in self.kept for replica in each["replicas"]]

    # --- endpoints ---

    def endpoints(self) -> list[EndpointSummary]:
        self._ask("endpoints")
        return self.kept

    def endpoint(self, name: str) -> EndpointDetail:
        self._ask("endpoint")
        found = self._of(name)
        changes = [
            {"t": self.now - 3 * _DAY, "by": "ada", "what": "start", "before": {}, "after": {"v3": 100.0}},
            {"t": self.now - 1500, "by": "ada", "what": "route", "before": {"v3": 100.0}, "after": {"v3": 95.0, "v4": 5.0}},
        ]
        return {**found, "spec": {"name": name, "slo": self.slo}, "history": changes}  # type: ignore[return-value, typeddict-item]

    def start(self, spec: Mapping[str, Any], cwd: str | None = None) -> EndpointSummary:
        name = str(spec["name"])
        self._wish("start", name, dict(spec))
        made = endpoint(
            name, [version("v1", spec["versions"][0]["model"], 1.0, ready=0, state="starting")],
            [replica(f"serve-{name}-0099", "v1", 9009, self.now, state="starting", healthy=False, started_at=self.now - 3)],
            self.now, state="starting", reason="loads the model", last_used=None,
        )  # fmt: skip
        self.kept = [*self.kept, made]
        return made

    def check(self, spec: Mapping[str, Any], cwd: str | None = None) -> CheckedEndpoint:
        self.alive()
        if self.refuses:
            raise ConflictError(self.refuses, "look again")
        model = spec["versions"][0]["model"]
        server: CheckedServer = {
            "version": "v1", "model": model, "runtime": "llamacpp", "runtime_version": "0.3.2", "gpu": False, "context": 2048, "slots": 4,
            "threads": 15, "memory_bytes": 340 << 20,
        }  # fmt: skip
        return {"spec": {**spec}, "servers": [server], "warnings": []}

    def stop(self, name: str) -> Done:
        self._wish("stop", name, None)
        self.kept = [each for each in self.kept if each["name"] != name]
        return {"done": f"{name} is stopped: 1 server ends once what is under way is answered"}

    def route(
        self,
        name: str,
        weights: Mapping[str, float] | None = None,
        mirror: Mapping[str, float] | None = None,
        sticky: str | None = None,
        balance: str | None = None,
        fallbacks: Sequence[str] | None = None,
    ) -> EndpointSummary:
        self._wish("route", name, dict(weights or {}))
        found, total = self._of(name), sum((weights or {}).values())
        for each in found["versions"]:
            each["weight"] = (weights or {}).get(each["name"], 0.0)
            each["share"] = each["weight"] / total
        return found

    def rollback(self, name: str) -> EndpointSummary:
        self._wish("rollback", name, None)
        if self._of(name)["previous"] is None:
            raise ConflictError(f"{name} has nothing to go back to", "see `llmops-tui endpoints show`")
        return self._of(name)

    def swap(self, name: str, model: str, serve: Mapping[str, Any] | None = None, cwd: str | None = None) -> EndpointSummary:
        self._wish("swap", name, model)
        found = self._of(name)
        found["versions"] = [*found["versions"], version("v5", model, 0.0, ready=0, state="starting", target_weight=100.0)]
        found["pending"] = {"what": "swap", "by": "ada", "since": self.now - 12, "weights": {"v5": 100.0}}
        return found

    def pin(self, name: str, pinned: bool = True) -> EndpointSummary:
        self._wish("pin", name, pinned)
        self._of(name)["pinned"] = pinned
        return self._of(name)

    def scale(self, name: str, count: int, version: str = "") -> EndpointSummary:
        self._wish("scale", name, (version, count))
        return self._of(name)

    def sleep(self, name: str) -> EndpointSummary:
        self._wish("sleep", name, None)
        self._of(name)["state"] = "asleep"
        return self._of(name)

    def wake(self, name: str) -> EndpointSummary:
        self._wish("wake", name, None)
        self._of(name)["state"] = "starting"
        return self._of(name)

    def add_version(self, name: str, version: Mapping[str, Any], cwd: str | None = None) -> EndpointSummary:
        self._wish("add_version", name, dict(version))
        return self._of(name)

    def remove_version(self, name: str, version: str) -> EndpointSummary:
        self._wish("remove_version", name, version)
        found = self._of(name)
        found["versions"] = [each for each in found["versions"] if each["name"] != version]
        return found

    def gateway(self) -> GatewayInfo:
        self._ask("gateway")
        return {
            "state": "running" if self.kept else "off", "problem": "", "pid": 4300, "url": URL, "auth": "none", "revision": 12,
            "uptime_seconds": 11_040.0, "rss_bytes": 61 << 20, "connections": 12, "in_flight": 6, "requests_total": 21_733, "warnings": [],
        }  # fmt: skip

    # --- what was answered ---

    def live(self, name: str) -> EndpointLive:
        self._ask("live")
        found = self._of(name)
        asked = found["versions"] if found["state"] not in ("asleep", "starting") else []
        versions = {each["name"]: _live(each, self.slow) for each in asked if each["weight"]}
        return {
            "endpoint": name, "t": self.now, "versions": versions, "energy_basis": "measured: GPU 0, shared by tokens", "currency": "EUR",
        }  # fmt: skip

    def latency(self, name: str, since: float | None = None, until: float | None = None, points: int = 120) -> LatencyHistory:
        self._ask("latency")
        end = self.now if until is None else until
        begin = end - 3600 if since is None else since
        seconds = (end - begin) / points
        found = self._of(name)
        told: dict[str, list[LatencyPoint]] = {}
        for each in found["versions"]:
            if each["weight"] and (found["last_used"] or 0.0) > begin:
                times = [begin + at * seconds for at in range(points)]
                told[each["name"]] = [_point(each, t, seconds, self.slow if t > self.now - 3700 else 1.0) for t in times]
        return {"endpoint": name, "since": begin, "until": end, "seconds": seconds, "versions": told}

    def requests(
        self,
        endpoint: str = "",
        version: str = "",
        status: str = "",
        key: str = "",
        slower_than_ms: float | None = None,
        since: float | None = None,
        until: float | None = None,
        before: float | None = None,
        limit: int = 100,
        count: bool = False,
    ) -> RequestPage:
        self._ask("requests")
        if status and not (status == "error" or status.isdigit() or status.endswith("xx")):
            raise UsageError(f"status: {status!r} is no status", "write 429, 5xx or error", [{"field": "status", "message": "no status"}])
        found = [
            row
            for row in self.rows
            if (not endpoint or row["endpoint"] == endpoint)
            and (not version or row["version"] == version)
            and (not key or row["key"] == key)
            and (not status or (row["status"] >= 400 if status == "error" else str(row["status"]).startswith(status.rstrip("x"))))
            and (slower_than_ms is None or (row["total_ms"] or 0) > slower_than_ms)
            and (since is None or row["t"] >= since)
            and (until is None or row["t"] <= until)
        ]
        page = [row for row in found if before is None or row["t"] < before]
        more = page[limit - 1]["t"] if len(page) > limit else None
        return {"rows": page[:limit], "total": len(found) if count else None, "next": more}

    def request(self, request_id: str) -> RequestDetail:
        self._ask("request")
        row = next((row for row in self.rows if row["id"] == request_id), None)
        if row is None:
            raise NotFoundError(f"there is no request {request_id}", "see `llmops-tui endpoints requests`")
        text = row["has_text"]
        return {
            "row": row,
            "messages": None,
            "redacted": int(text),
            "prompt": "user: How do I reset my password?\nIt says [EMAIL] is unknown." if text else "",
            "response": "Open **Settings**, choose *Security* and follow the link we send you.\n" * 3 if text else "",
            "feedback": [
                {"t": row["t"] + 40, "id": request_id, "key": row["key"], "rating": row["rating"], "comment": "to the point",
                 "correction": ""},
            ] if row["rating"] else [],
        }  # fmt: skip

    def chat(self, name: str, body: Mapping[str, Any]) -> FakeChatStream:
        self.alive()
        if self.refuses:
            raise ConflictError(self.refuses, "look again")
        routed = max(self._of(name)["versions"], key=lambda each: each["weight"])["name"]
        return self.chats.stream(name, body, routed)

    def feedback(self, request_id: str, rating: str | float | None = None, comment: str = "", correction: str = "") -> Done:
        self._wish("feedback", request_id, (rating, comment, correction))
        return {"done": f"noted for {request_id}"}

    def _ask(self, what: str) -> None:
        self.alive()
        self.asked.append(what)

    def _wish(self, verb: str, name: str, what: Any) -> None:
        self.alive()
        if self.refuses:
            raise ConflictError(self.refuses, "look again")
        self.wishes.append((verb, name, what))

    def _of(self, name: str) -> EndpointSummary:
        found = next((each for each in self.kept if each["name"] == name), None)
        if found is None:
            raise NotFoundError(f"there is no endpoint {name!r}", "see `llmops-tui endpoints list`")
        return found


def _live(of: VersionState, slow: float) -> VersionLive:
    dice = random.Random(of["name"])
    windows: dict[str, dict[str, float]] = {}
    for seconds in (60, 300, 3600):
        requests = max(1, round(seconds * 4.2 * of["share"]))
        base = (44 + 4 * dice.random()) * slow
        windows[str(seconds)] = {
            "requests": requests, "errors": round(requests / 4000), "good": requests - round(requests / 90),
            "tokens_per_second": round(requests / seconds * 118, 1),
            "ttft_p50": base, "ttft_p95": 2.7 * base, "ttft_p99": 4.4 * base, "itl_p50": 8.1, "itl_p95": 11.9, "itl_p99": 20.4,
            "total_p50": 1010.0, "total_p95": 2240.0, "total_p99": 3300.0, "queue_p50": 0.4, "queue_p95": 12.0, "queue_p99": 61.0,
        }  # fmt: skip
    return {
        "windows": windows,
        "load": {"running": 3.0, "waiting": 0.0, "kv_cache_fraction": 0.37, "prefix_hit_fraction": 0.62,
                 "generated_tokens_per_second": 498.0 * of["share"]},
        "joules_per_1k_tokens": 812.0, "cost_per_1k_tokens": 0.00009,
    }  # fmt: skip


def _point(of: VersionState, t: float, seconds: float, slow: float) -> LatencyPoint:
    dice, day = random.Random(f"{of['name']} {round(t)}"), t % _DAY
    requests = max(1, round(seconds * of["share"] * (2.2 + math.sin(day / 900))))
    first = slow * (46 + 6 * math.sin(day / 700) + dice.gauss(0, 2))
    errors = int(dice.random() < 0.04)
    return {
        "t": t, "requests": requests, "errors": errors, "good": requests - errors, "completion_tokens": 118 * requests,
        "prompt_tokens": 310 * requests,
        "ttft_p50": first, "ttft_p95": 2.6 * first, "ttft_p99": 4.1 * first + 30 * (dice.random() < 0.05),
        "itl_p50": 8.1, "itl_p95": 11.9, "itl_p99": 20.4, "total_p50": 1010.0 * slow, "total_p95": 2240.0 * slow, "total_p99": 3300.0,
        "queue_p50": 0.4, "queue_p95": 12.0, "queue_p99": 61.0,
    }  # fmt: skip


def request_row(at: int, now: float) -> RequestRow:
    """The `at`-newest request."""
    dice = random.Random(at)
    failed, limited = at % 41 == 7, at % 53 == 11
    tokens = 0 if failed or limited else 20 + round(dice.random() * 300)
    queue, first = round(dice.random() * 12, 1), round(40 + dice.random() * 90, 1)
    total = 3.0 if limited else round(queue + first + 8.1 * tokens, 1)
    code = at % 5 == 4
    row: dict[str, Any] = {
        "id": f"req-{9000 - at:05d}", "t": now - 3.7 * at - 1, "endpoint": "code" if code else "support",
        "version": "v1" if code else ("v4" if at % 19 == 0 else "v3"), "replica": "serve-code-0064" if code else "serve-support-0061",
        "provider": "", "key": ("web", "app", "batch")[at % 3], "session": "", "path": "/v1/chat/completions", "stream": at % 4 != 0,
        "status": 502 if failed else 429 if limited else 200, "finish": "" if failed or limited else ("length" if at % 9 == 0 else "stop"),
        "error": "the upstream closed the connection" if failed else "rate limit of the key `batch`" if limited else "",
        "prompt_tokens": None if limited else 60 + at % 400, "completion_tokens": None if limited else tokens, "cached_tokens": None,
        "queue_ms": None if limited else queue, "ttft_ms": None if failed or limited else first,
        "itl_ms": None if failed or limited else 8.1, "itl_max_ms": None if failed or limited else 31.0, "total_ms": total,
        "attempts": 2 if failed else 1, "fallback_from": "", "mirror": False, "prompt_hash": f"{at:016x}", "response_hash": "",
        "cost": None, "client_gone": at % 77 == 5, "estimated": at % 77 == 5,
        "good": total <= 2600 and not failed and not limited, "has_text": at % 2 == 0, "rating": "up" if at % 23 == 2 else "",
    }  # fmt: skip
    return row  # type: ignore[return-value]
