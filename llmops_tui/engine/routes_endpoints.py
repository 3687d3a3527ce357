"""`/v1/endpoints…`, `/v1/keys`, `/v1/gateway` and `/v1/feedback`: what is served, who may ask for it, and asking it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import Field
from starlette.responses import StreamingResponse

from llmops_tui.engine.answering import EngineParts, answer, caller_directory, event_stream
from llmops_tui.engine.endpoints.chat import refusal
from llmops_tui.engine.endpoints.keys import describe
from llmops_tui.engine.people import who_asks
from llmops_tui.errors import NotFoundError
from llmops_tui.specs.answers import Done
from llmops_tui.specs.answers_serving import CheckedEndpoint, EndpointDetail, EndpointSummary, GatewayInfo, KeyInfo, NewKey
from llmops_tui.specs.common import StrictModel

router = APIRouter(tags=["endpoints"])
_MOST_NAMED = 64


class StartRequest(StrictModel):
    """An endpoint's spec as the user wrote it; relative paths are meant from `cwd`."""

    spec: dict[str, Any]
    cwd: str = "/"


class RouteRequest(StrictModel):
    """What is null stays as it is; versions that `weights` does not name get nothing."""

    weights: dict[str, float] | None = Field(None, max_length=_MOST_NAMED)
    mirror: dict[str, float] | None = Field(None, max_length=_MOST_NAMED)
    sticky: Literal["none", "key", "session"] | None = None
    balance: Literal["least_tokens", "prefix", "round_robin"] | None = None
    fallbacks: list[str] | None = Field(None, max_length=8)


class SwapRequest(StrictModel):
    """`serve` are keys of the new servers' spec; what is left out stays as the version before has it."""

    model: str = Field(min_length=1, max_length=4096)
    serve: dict[str, Any] | None = None
    cwd: str = "/"


class PinRequest(StrictModel):
    pinned: bool = True


class ScaleRequest(StrictModel):
    """Of which version; empty: of the one with the most requests."""

    version: str = ""
    count: int = Field(ge=0, le=10_000)


class VersionRequest(StrictModel):
    """A version more: a model or a provider; with `adapter_of` an adapter on that version's servers."""

    version: dict[str, Any]
    cwd: str = "/"


class AdapterRequest(StrictModel):
    """An adapter on the servers of a version; empty: of the one with the most requests. Requests name it `endpoint:name`."""

    name: str = Field(min_length=1, max_length=40)
    model: str = Field(min_length=1, max_length=4096)
    version: str = ""
    cwd: str = "/"


class KeyRequest(StrictModel):
    """Limits of 0 are none; `endpoints` are names, or `*` for all."""

    name: str = Field(min_length=1, max_length=60)
    endpoints: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(["*"], min_length=1, max_length=_MOST_NAMED)
    requests_per_minute: float = Field(0.0, ge=0, le=1e9)
    tokens_per_minute: float = Field(0.0, ge=0, le=1e12)
    tokens_per_day: int = Field(0, ge=0, le=10**15)
    concurrent: int = Field(0, ge=0, le=10**6)


class FeedbackRequest(StrictModel):
    """What somebody thinks of an answer; `id` is the answer's `x-request-id`. A comment or a correction may stand without a rating."""

    id: str = Field(min_length=1, max_length=100)
    rating: Literal["up", "down"] | float | None = None
    comment: str = Field("", max_length=16_384)
    correction: str = Field("", max_length=262_144)


@router.get("/endpoints", response_model=list[EndpointSummary])
async def list_endpoints(parts: EngineParts) -> Response:
    """Every endpoint with its versions and servers; from memory."""
    return answer([parts.endpoints.keeping.summary(name) for name in parts.endpoints.keeping.book.entries])


@router.post("/endpoints", response_model=EndpointSummary, status_code=201)
async def start_endpoint(parts: EngineParts, request: StartRequest) -> Response:
    """Check a spec, its models and the port, then keep it. Once this answered, it is never lost."""
    return answer(await parts.endpoints.wishes.start(request.spec, who_asks(), caller_directory(request.cwd)), 201)


@router.post("/endpoints/check", response_model=CheckedEndpoint)
async def check_endpoint(parts: EngineParts, request: StartRequest) -> Response:
    """Check all that starting it would check, and say what its servers would be; nothing changes."""
    return answer(await parts.endpoints.wishes.check(request.spec, who_asks(), caller_directory(request.cwd)))


@router.get("/endpoints/{name}", response_model=EndpointDetail)
async def show_endpoint(parts: EngineParts, name: str) -> Response:
    """One endpoint with its spec and history."""
    return answer(parts.endpoints.keeping.detail(name))


@router.delete("/endpoints/{name}", response_model=Done)
async def stop_endpoint(parts: EngineParts, name: str) -> Response:
    """No new requests; its servers end once what is under way is answered."""
    return answer(await parts.endpoints.wishes.stop(name))


@router.post("/endpoints/{name}/route", response_model=EndpointSummary)
async def route_endpoint(parts: EngineParts, name: str, request: RouteRequest) -> Response:
    """Other weights, shadow traffic, stickiness, balance or fallbacks. Holds for the next request, or once the versions are ready."""
    settings = {key: value for key in ("sticky", "balance", "fallbacks") if (value := getattr(request, key)) is not None}
    return answer(await parts.endpoints.wishes.route(name, request.weights, request.mirror, settings, who_asks().user))


@router.post("/endpoints/{name}/rollback", response_model=EndpointSummary)
async def rollback_endpoint(parts: EngineParts, name: str) -> Response:
    """Back to the version before."""
    return answer(await parts.endpoints.wishes.rollback(name, who_asks().user))


@router.post("/endpoints/{name}/swap", response_model=EndpointSummary)
async def swap_endpoint(parts: EngineParts, name: str, request: SwapRequest) -> Response:
    """A new version in the place of the one that answers, without a failed request."""
    cwd = caller_directory(request.cwd)
    return answer(await parts.endpoints.wishes.swap(name, request.model, request.serve, who_asks(), cwd))


@router.post("/endpoints/{name}/pin", response_model=EndpointSummary)
async def pin_endpoint(parts: EngineParts, name: str, request: PinRequest) -> Response:
    """Never unload it, or as its spec says."""
    return answer(await parts.endpoints.wishes.pin(name, request.pinned, who_asks().user))


@router.post("/endpoints/{name}/sleep", response_model=EndpointSummary)
async def sleep_endpoint(parts: EngineParts, name: str) -> Response:
    """Unload it until the next request."""
    return answer(await parts.endpoints.wishes.sleep(name, who_asks().user))


@router.post("/endpoints/{name}/wake", response_model=EndpointSummary)
async def wake_endpoint(parts: EngineParts, name: str) -> Response:
    """Start its servers again, without a request."""
    return answer(await parts.endpoints.wishes.wake(name, who_asks().user))


@router.post("/endpoints/{name}/replicas", response_model=EndpointSummary)
async def scale_endpoint(parts: EngineParts, name: str, request: ScaleRequest) -> Response:
    """Another number of servers of a version."""
    return answer(await parts.endpoints.wishes.scale(name, request.version, request.count, who_asks().user))


@router.post("/endpoints/{name}/versions", response_model=EndpointSummary)
async def add_version(parts: EngineParts, name: str, request: VersionRequest) -> Response:
    """A version more, which gets no requests until it is routed."""
    return answer(await parts.endpoints.wishes.add(name, request.version, who_asks(), caller_directory(request.cwd)))


@router.post("/endpoints/{name}/adapters", response_model=EndpointSummary)
async def add_adapter(parts: EngineParts, name: str, request: AdapterRequest) -> Response:
    """An adapter on the servers of a version, as a version of its own."""
    spec = parts.endpoints.keeping.book.get(name).spec
    base = request.version or max(spec.versions, key=lambda version: version.weight).name
    values = {"name": request.name, "model": request.model, "adapter_of": base}
    return answer(await parts.endpoints.wishes.add(name, values, who_asks(), caller_directory(request.cwd)))


@router.delete("/endpoints/{name}/versions/{version}", response_model=EndpointSummary)
async def remove_version(parts: EngineParts, name: str, version: str) -> Response:
    """Without a version, or an adapter, that gets no requests."""
    return answer(await parts.endpoints.wishes.remove(name, version, who_asks().user))


@router.post("/endpoints/{name}/chat", response_class=StreamingResponse)
async def chat(parts: EngineParts, name: str, body: dict[str, Any]) -> Response:
    """A chat completion of the gateway, passed through; `version` in the body asks one version outright."""
    endpoint = parts.endpoints.keeping.book.get(name)
    version = body.pop("version", "")
    if version and (not isinstance(version, str) or endpoint.spec.version(version) is None):
        raise NotFoundError(f"{endpoint.name} has no version {version!r}", f"see `llmops-tui endpoints show {endpoint.name}`")
    asked = await parts.endpoints.ask("/v1/chat/completions", {**body, "model": f"{endpoint.name}:{version}" if version else endpoint.name})
    if asked.status >= 400:
        raise await refusal(asked)
    response = event_stream(asked.body)
    response.headers["content-type"] = asked.headers.get("content-type", "text/event-stream")
    for header in ("x-request-id", "x-llmops-version", "x-llmops-replica"):
        if header in asked.headers:
            response.headers[header] = asked.headers[header]
    return response


@router.post("/feedback", response_model=Done)
async def give_feedback(parts: EngineParts, request: FeedbackRequest) -> Response:
    """Say what an answer was worth; it is recorded beside the request."""
    asked = await parts.endpoints.ask("/v1/feedback", request.model_dump(exclude_defaults=True))
    if asked.status >= 400:
        raise await refusal(asked)
    async for _ in asked.body:
        pass
    return answer(Done(done=f"noted for {request.id}"))


@router.get("/keys", response_model=list[KeyInfo])
async def list_keys(parts: EngineParts) -> Response:
    """Every key without its secret, oldest first."""
    return answer([describe(record) for record in parts.endpoints.keeping.keys.records])


@router.post("/keys", response_model=NewKey, status_code=201)
async def create_key(parts: EngineParts, request: KeyRequest) -> Response:
    """A new key. Its secret is in this answer and nowhere else."""
    person, keeping = who_asks(), parts.endpoints.keeping
    # Under an alias too: the gateway asks for the endpoint's own name.
    names = list(dict.fromkeys(name if name == "*" else keeping.book.get(name).name for name in request.endpoints))
    wanted = {**request.model_dump(), "endpoints": names}
    made = await asyncio.to_thread(lambda: keeping.keys.create(**wanted, owner=person.user, uid=person.uid))
    await keeping.publish()
    return answer(made, 201)


@router.delete("/keys/{identity}", response_model=KeyInfo)
async def revoke_key(parts: EngineParts, identity: str) -> Response:
    """It opens nothing from the next request on."""
    keeping = parts.endpoints.keeping
    gone = await asyncio.to_thread(keeping.keys.revoke, identity)
    await keeping.publish()
    return answer(gone)


@router.get("/gateway", response_model=GatewayInfo)
async def show_gateway(parts: EngineParts) -> Response:
    """The process in front of all endpoints."""
    return answer(parts.endpoints.gateway_info())
