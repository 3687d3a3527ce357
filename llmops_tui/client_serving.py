"""What is served, as `Client.serving`: endpoints, their requests, keys, the gateway and the runtimes. Standard library only, thread-safe.

Every method raises an error of `llmops_tui.errors`: the engine's own, or EngineUnavailableError when none answers.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmops_tui.client_transport import EventSource, Query, Transport, segment

if TYPE_CHECKING:
    from llmops_tui.specs.answers import Done, RunSummary
    from llmops_tui.specs.answers_requests import EndpointLive, LatencyHistory, RequestDetail, RequestPage, RuntimeInfo
    from llmops_tui.specs.answers_serving import CheckedEndpoint, EndpointDetail, EndpointSummary, GatewayInfo, KeyInfo, NewKey

_CHECK_SECONDS = 600.0  # models are hashed, runtimes imported
_ANSWER_SECONDS = 600.0


class ChatStream:
    """An answer as it comes: iterate over the chunks of a chat completion; `close` gives it up, which cancels the work behind it.

    `request_id`, `version` and `replica` say who answered, as soon as the stream is there.
    """

    def __init__(self, source: EventSource) -> None:
        self._source = source
        self.request_id = source.headers.get("x-request-id", "")
        self.version = source.headers.get("x-llmops-version", "")
        self.replica = source.headers.get("x-llmops-replica", "")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Each `chat.completion.chunk`; a chunk with `error` says that the answer broke off. Ends with the answer or its breaking."""
        for message in self._source:
            if message.data == "[DONE]":
                return
            chunk = json.loads(message.data)
            if isinstance(chunk, dict):
                yield chunk

    def close(self) -> None:
        """From any thread."""
        self._source.close()


class ServingCalls:
    """Calls that wait for their answer. `name` is an endpoint's name or alias."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    # --- endpoints ---

    def endpoints(self) -> list[EndpointSummary]:
        """All of them with their versions and servers."""
        found: list[EndpointSummary] = self._json("GET", "/v1/endpoints")
        return found

    def endpoint(self, name: str) -> EndpointDetail:
        """One with its spec and history. Raises NotFoundError."""
        found: EndpointDetail = self._json("GET", _at(name))
        return found

    def start(self, spec: Mapping[str, Any], cwd: str | None = None) -> EndpointSummary:
        """A new endpoint (specs/endpoint.py). Checked whole before anything starts; once this returned it is never lost."""
        body = {"spec": dict(spec), "cwd": cwd or os.getcwd()}
        made: EndpointSummary = self._json("POST", "/v1/endpoints", body=body, timeout=_CHECK_SECONDS)
        return made

    def check(self, spec: Mapping[str, Any], cwd: str | None = None) -> CheckedEndpoint:
        """What `start` would check, and what the servers would be. Nothing changes. Raises what `start` raises."""
        body = {"spec": dict(spec), "cwd": cwd or os.getcwd()}
        found: CheckedEndpoint = self._json("POST", "/v1/endpoints/check", body=body, timeout=_CHECK_SECONDS)
        return found

    def stop(self, name: str) -> Done:
        """No new requests; its servers end once what is under way is answered."""
        done: Done = self._json("DELETE", _at(name))
        return done

    def route(
        self,
        name: str,
        weights: Mapping[str, float] | None = None,
        mirror: Mapping[str, float] | None = None,
        sticky: str | None = None,
        balance: str | None = None,
        fallbacks: Sequence[str] | None = None,
    ) -> EndpointSummary:
        """What is None stays as it is; versions that `weights` does not name get nothing."""
        body = {"weights": weights, "mirror": mirror, "sticky": sticky, "balance": balance, "fallbacks": fallbacks}
        return self._change(name, "route", body)

    def rollback(self, name: str) -> EndpointSummary:
        """Back to the version before, for the next request where it is still warm. Raises ConflictError where there is none."""
        return self._change(name, "rollback", None)

    def swap(self, name: str, model: str, serve: Mapping[str, Any] | None = None, cwd: str | None = None) -> EndpointSummary:
        """A new version in the place of the one that answers, without a failed request."""
        return self._change(name, "swap", {"model": model, "serve": serve, "cwd": cwd or os.getcwd()})

    def pin(self, name: str, pinned: bool = True) -> EndpointSummary:
        """Never unload it, or as its spec says."""
        return self._change(name, "pin", {"pinned": pinned})

    def sleep(self, name: str) -> EndpointSummary:
        """Unload it until the next request. Raises ConflictError where it is pinned or changes."""
        return self._change(name, "sleep", None)

    def wake(self, name: str) -> EndpointSummary:
        """Start its servers again, without a request."""
        return self._change(name, "wake", None)

    def scale(self, name: str, count: int, version: str = "") -> EndpointSummary:
        """Another number of servers of a version; empty: of the one with the most requests."""
        return self._change(name, "replicas", {"version": version, "count": count})

    def add_version(self, name: str, version: Mapping[str, Any], cwd: str | None = None) -> EndpointSummary:
        """A version more (specs/endpoint.py EndpointVersion), which gets no requests until it is routed."""
        return self._change(name, "versions", {"version": dict(version), "cwd": cwd or os.getcwd()})

    def add_adapter(self, name: str, adapter: str, model: str, version: str = "", cwd: str | None = None) -> EndpointSummary:
        """An adapter on the servers of a version, as a version named `adapter`."""
        body = {"name": adapter, "model": model, "version": version, "cwd": cwd or os.getcwd()}
        return self._change(name, "adapters", body)

    def remove_version(self, name: str, version: str) -> EndpointSummary:
        """Without a version, or an adapter, that gets no requests."""
        summary: EndpointSummary = self._json("DELETE", f"{_at(name)}/versions/{segment(version)}")
        return summary

    def chat(self, name: str, body: Mapping[str, Any]) -> ChatStream:
        """A chat completion, streamed; `body` as OpenAI's (messages, temperature …), `version` in it asks one version outright."""
        source = self._transport.open_stream(f"{_at(name)}/chat", [], _ANSWER_SECONDS, "POST", {**body, "stream": True})
        return ChatStream(source)

    def feedback(self, request_id: str, rating: str | float | None = None, comment: str = "", correction: str = "") -> Done:
        """Say what an answer was worth: up, down or a number; recorded beside the request."""
        body = {"id": request_id, "rating": rating, "comment": comment, "correction": correction}
        done: Done = self._json("POST", "/v1/feedback", body={name: value for name, value in body.items() if value not in (None, "")})
        return done

    # --- what was answered ---

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
        """Newest first. `status`: a number (429), a class (5xx) or `error` (400 and above); `before` pages on."""
        texts = (("endpoint", endpoint), ("version", version), ("status", status), ("key", key))
        numbers = (("slower_than_ms", slower_than_ms), ("since", since), ("until", until), ("before", before))
        query = [pair for pair in texts if pair[1]] + [(name, repr(value)) for name, value in numbers if value is not None]
        query += [("limit", str(limit))] + ([("count", "true")] if count else [])
        page: RequestPage = self._json("GET", "/v1/requests", query)
        return page

    def request(self, request_id: str) -> RequestDetail:
        """One request with its text, where it was kept, and its feedback. Raises NotFoundError."""
        found: RequestDetail = self._json("GET", f"/v1/requests/{segment(request_id)}")
        return found

    def latency(self, name: str, since: float | None = None, until: float | None = None, points: int = 120) -> LatencyHistory:
        """The history of an endpoint's latency by version; the last hour where `since` is left out."""
        query = [("points", str(points))] + [(at, repr(t)) for at, t in (("since", since), ("until", until)) if t is not None]
        found: LatencyHistory = self._json("GET", f"{_at(name)}/latency", query)
        return found

    def live(self, name: str) -> EndpointLive:
        """The last minutes of an endpoint: latency windows, load of its servers, energy and money a thousand tokens."""
        found: EndpointLive = self._json("GET", f"{_at(name)}/live")
        return found

    # --- who may ask, and what answers ---

    def keys(self) -> list[KeyInfo]:
        """Every key without its secret, oldest first."""
        found: list[KeyInfo] = self._json("GET", "/v1/keys")
        return found

    def create_key(self, name: str, **limits: Any) -> NewKey:
        """A new key; `limits`: endpoints, requests_per_minute, tokens_per_minute, tokens_per_day, concurrent. Its secret is told once."""
        made: NewKey = self._json("POST", "/v1/keys", body={"name": name, **limits})
        return made

    def revoke_key(self, identity: str) -> KeyInfo:
        """It opens nothing from the next request on."""
        gone: KeyInfo = self._json("DELETE", f"/v1/keys/{segment(identity)}")
        return gone

    def gateway(self) -> GatewayInfo:
        """The process in front of all endpoints."""
        found: GatewayInfo = self._json("GET", "/v1/gateway")
        return found

    def runtimes(self) -> list[RuntimeInfo]:
        """Serving engines and quantizers: which are installed, and where. Nothing is run to find out."""
        found: list[RuntimeInfo] = self._json("GET", "/v1/runtimes")
        return found

    def check_runtime(self, name: str) -> RuntimeInfo:
        """One runtime asked what it is and can, in its own environment. Takes seconds to minutes."""
        found: RuntimeInfo = self._json("POST", f"/v1/runtimes/{segment(name)}/check", timeout=_CHECK_SECONDS)
        return found

    def install_runtime(self, name: str, wheels: str = "") -> RunSummary:
        """Make its environment, as a supervised run; `wheels`: a directory of wheels in place of the package index."""
        body = {"wheels": os.path.abspath(wheels) if wheels else ""}
        run: RunSummary = self._json("POST", f"/v1/runtimes/{segment(name)}/install", body=body)
        return run

    def _change(self, name: str, verb: str, body: Mapping[str, Any] | None) -> EndpointSummary:
        summary: EndpointSummary = self._json("POST", f"{_at(name)}/{verb}", body=body, timeout=_CHECK_SECONDS)
        return summary

    def _json(self, method: str, path: str, query: Query | None = None, body: object = None, timeout: float = 30.0) -> Any:
        return json.loads(self._transport.call(method, path, query, body, timeout).body)


def _at(name: str) -> str:
    return f"/v1/endpoints/{segment(name)}"
