"""What the gateway answers itself: models, health, metrics and feedback."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import orjson

from llmops_tui.engine.serving.gateway.client import Client
from llmops_tui.engine.serving.gateway.core import Core
from llmops_tui.engine.serving.gateway.errors import GatewayError
from llmops_tui.engine.serving.gateway.exposition import exposition
from llmops_tui.engine.serving.gateway.http_request import Request
from llmops_tui.engine.serving.gateway.keys import Key
from llmops_tui.engine.serving.gateway.routes import Endpoint

LATELY_SECONDS = 30.0  # a completion is tried after 10 s without one
_LONGEST_COMMENT = 64 << 10
_ONE_MODEL = b"/v1/models/"


def models(core: Core, client: Client, request: Request, key: Key | None) -> None:
    """GET /v1/models: endpoints and their versions, as far as the key reaches."""
    client.answer(200, orjson.dumps({"object": "list", "data": _models(core, key)}))


def model(core: Core, client: Client, request: Request, key: Key | None) -> None:
    """GET /v1/models/NAME: one of them."""
    name = unquote(request.target.partition(b"?")[0].removeprefix(_ONE_MODEL).decode("latin-1"))
    found = next((listed for listed in _models(core, key) if listed["id"] == name), None)
    if found is None:
        raise GatewayError(404, f"there is no model called {name[:200]!r}", "model_not_found", "model")
    client.answer(200, orjson.dumps(found))


def _models(core: Core, key: Key | None) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = []
    for endpoint in core.routes.endpoints.values():
        if key is not None and not key.reaches(endpoint.name):
            continue
        versions = [f"{endpoint.name}@{version.name}" for version in endpoint.versions]
        for name in (endpoint.name, *endpoint.rule.aliases, *versions):
            listed.append({"id": name, "object": "model", "created": 0, "owned_by": "llmops", "root": endpoint.name})
    return listed


def endpoint_health(endpoint: Endpoint, unix_now: float) -> dict[str, Any]:
    """Whether an endpoint answers: true only if a completion came back from one of its replicas lately."""
    replicas = [replica for version in endpoint.versions for replica in version.replicas]
    usable = [replica for replica in replicas if replica.healthy and replica.rule.state == "ready"]
    last = max((replica.last_ok for replica in usable), default=0.0)
    asleep = endpoint.rule.on_demand and not usable
    # A provider is not asked for a token just to see: it costs money. While none of its answers failed, it is not held against the gateway.
    remote = bool(usable) and all(replica.provider and replica.breaker.state == "closed" for replica in usable)
    return {"ok": unix_now - last < LATELY_SECONDS, "asleep": asleep, "remote": remote, "last_ok": last or None}


def health(core: Core, client: Client, request: Request, key: Key | None) -> None:
    """GET /health, or /health?endpoint=NAME: 200 when it (or any endpoint) answers, 503 when not.

    Which endpoints there are is for those who may ask them, so that without a key every name is answered alike.
    """
    now = time.time()
    asker = core.keys.find(request.authorization)
    known = asker is not None or core.config.auth != "keys"
    served = {name: endpoint for name, endpoint in core.routes.endpoints.items() if asker is None or asker.reaches(name)}
    states = {name: endpoint_health(endpoint, now) for name, endpoint in served.items()}
    query = request.target.partition(b"?")[2].decode("latin-1")
    if query.startswith("endpoint="):
        if not known:
            raise GatewayError(401, "one endpoint's health is told to a key that reaches it: Authorization: Bearer KEY", "missing_api_key")
        name = query.removeprefix("endpoint=")
        if name not in states:
            raise GatewayError(404, f"there is no endpoint called {name[:200]!r}", "model_not_found")
        states = {name: states[name]}
    awake = {name: state for name, state in states.items() if state["ok"] or not (state["asleep"] or state["remote"])}
    well = not awake or any(state["ok"] for state in awake.values())
    status = "ok" if all(state["ok"] for state in awake.values()) else "degraded" if well else "down"
    client.answer(200 if well else 503, orjson.dumps({"status": status, "endpoints": states} if known else {"status": status}))


def metrics(core: Core, client: Client, request: Request, key: Key | None) -> None:
    """GET /metrics, for Prometheus; for a key of some endpoints what is of these."""
    client.answer(200, exposition(core, key).encode(), content_type=b"text/plain; version=0.0.4; charset=utf-8")


def feedback(core: Core, client: Client, request: Request, key: Key | None) -> None:
    """POST /v1/feedback {"id", "rating", "comment"?, "correction"?}: kept beside the request that it is about."""
    if key is not None:
        key.count_request(time.monotonic())
    else:
        core.unkeyed.count_request(client.address, time.monotonic())
    try:
        fields: Any = orjson.loads(request.body)
    except ValueError as error:
        raise GatewayError(400, f"the body is not JSON: {error}", "invalid_json") from None
    if not isinstance(fields, dict):
        raise GatewayError(400, "the body must be a JSON object", "invalid_json")
    about = fields.get("id")
    if not isinstance(about, str) or not about.startswith("req_") or len(about) > 64:
        raise GatewayError(400, "id: must be the x-request-id of an answer", "invalid_value", "id")
    if key is not None and key.rule.endpoints is not None and not key.reaches(core.endpoint_asked(about) or ""):
        said = "id: this key is limited to endpoints, and none of the newest requests to them has this id; ask with a key of every endpoint"
        raise GatewayError(403, said, "endpoint_not_allowed", "id")
    rating = fields.get("rating")
    known = rating in ("up", "down") if isinstance(rating, str) else isinstance(rating, (int, float)) and not isinstance(rating, bool)
    if not known and rating is not None:
        raise GatewayError(400, "rating: must be up, down or a number", "invalid_value", "rating")
    texts = {name: fields.get(name) for name in ("comment", "correction")}
    for name, text in texts.items():
        if text is not None and (not isinstance(text, str) or len(text) > _LONGEST_COMMENT):
            raise GatewayError(400, f"{name}: must be a text of at most {_LONGEST_COMMENT} characters", "invalid_value", name)
    if rating is None and not any(texts.values()):
        raise GatewayError(400, "rating: say up, down or a number, or leave a comment or a correction", "invalid_value", "rating")
    line = {"type": "feedback", "t": time.time(), "id": about, "key": key.rule.id if key else "", "rating": rating}
    remarks = {name: core.redacted_remark(text) if isinstance(text, str) else None for name, text in texts.items()}
    core.spool.write(orjson.dumps({**line, **remarks}, option=orjson.OPT_APPEND_NEWLINE))
    client.answer(200, orjson.dumps({"id": about, "object": "feedback", "recorded": True}))


Page = Callable[[Core, Client, Request, Key | None], None]
PAGES: dict[bytes, tuple[tuple[bytes, ...], Page]] = {
    b"/v1/models": ((b"GET",), models),
    b"/health": ((b"GET",), health),
    b"/metrics": ((b"GET",), metrics),
    b"/v1/feedback": ((b"POST",), feedback),
}


def page_at(path: bytes) -> tuple[tuple[bytes, ...], Page] | None:
    """What answers there, and to which methods."""
    if path.startswith(_ONE_MODEL) and len(path) > len(_ONE_MODEL):
        return (b"GET",), model
    return PAGES.get(path)
