"""The engine's HTTP application: routes by noun and one shape of error."""

from __future__ import annotations

import errno
import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import llmops_tui
from llmops_tui.engine import (
    routes_alarms,
    routes_catalog,
    routes_control,
    routes_endpoints,
    routes_engine,
    routes_estimate,
    routes_export,
    routes_lineage,
    routes_log,
    routes_past,
    routes_people,
    routes_picking,
    routes_preview,
    routes_reproduce,
    routes_requests,
    routes_runs,
    routes_runtimes,
    routes_sweeps,
)
from llmops_tui.engine.answering import error_answer
from llmops_tui.engine.door import Door
from llmops_tui.engine.parts import Parts
from llmops_tui.engine.peers import LONGEST_BODY_BYTES, too_large
from llmops_tui.errors import InsufficientResourcesError, LlmopsError, NotFoundError, UsageError
from llmops_tui.specs.wording import plain

_NOUNS = ("runs", "sweeps", "models", "datasets", "sql", "gpus", "engine", "status", "alarms", "endpoints", "runtimes", "requests")
# A verb of the API and the command that says it.
_RUN_VERBS = {name: name for name in ("stop", "retry", "checkpoint", "priority", "move")} | {"annotate": "note"}
log = logging.getLogger(__name__)


def create_app(parts: Parts) -> FastAPI:
    """The application over the engine's parts. Its OpenAPI description is made when first asked for."""
    app = FastAPI(
        title="llmops-tui engine",
        version=llmops_tui.__version__,
        description="The engine of one state directory. Errors are `{error: {kind, message, next_step, exit_code, fields}}`.",
        docs_url=None,  # these pages load their scripts from the network
        redoc_url=None,
        redirect_slashes=False,  # a change that was only sent on would stand in the audit log as made
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False},
    )
    app.state.parts = parts
    app.add_middleware(_BodyLimit)
    app.add_middleware(Door, parts=parts)
    app.add_exception_handler(LlmopsError, _on_llmops_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(OSError, _on_os_error)
    app.add_exception_handler(Exception, _on_unexpected)
    for routes in (
        routes_engine,
        routes_estimate,
        routes_export,
        routes_log,
        routes_past,
        routes_people,
        routes_runs,
        routes_sweeps,
        routes_control,
        routes_picking,
        routes_reproduce,
        routes_catalog,
        routes_lineage,
        routes_preview,
        routes_alarms,
        routes_endpoints,
        routes_requests,
        routes_runtimes,
    ):
        app.include_router(routes.router, prefix="/v1")
    return app


class _BodyLimit:
    """Stops reading a body that is too long, in the shape of every other error (FastAPI's own limit answers in plain text)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > LONGEST_BODY_BYTES:
                raise HTTPException(413)
            return message

        await self._app(scope, limited, send)


async def _on_llmops_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, LlmopsError)
    if type(error) is LlmopsError:
        log.warning("%s %s: %s", request.method, request.url.path, error)
    return error_answer(error)


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = [
        {
            "field": ".".join(str(part) for part in item["loc"][1:]) or "body",
            "message": plain(str(item["type"]), str(item["msg"]), item.get("ctx")),
        }
        for item in error.errors()
    ]
    first = fields[0] if fields else {"field": "request", "message": "is not valid"}
    return error_answer(UsageError(f"{first['field']}: {first['message']}", _help_for(request), fields))


def _help_for(request: Request) -> str:
    """The command whose help tells what this request takes: those who ask by hand know the API's own description."""
    parts = request.url.path.removeprefix("/v1/").split("/")
    noun, verb = parts[0], parts[2] if len(parts) == 3 else ""
    if noun == "runs" and request.method == "POST":
        return f"see `llmops-tui runs {_RUN_VERBS[verb]} --help`" if verb in _RUN_VERBS else "see `llmops-tui run --help`"
    return f"see `llmops-tui {noun} --help`" if noun in _NOUNS else "see `llmops-tui --help`"


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    what = f"{request.method} {request.url.path}"
    if error.status_code == 404:
        return error_answer(NotFoundError(f"the engine has no {what}", "see /openapi.json"))
    if error.status_code == 413:
        return error_answer(too_large(f"{what}: the request"), 413)
    return error_answer(UsageError(f"{what}: {error.detail}", "see /openapi.json"), error.status_code)


async def _on_os_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, OSError)
    log.warning("%s %s: %s", request.method, request.url.path, error)
    what = f"{error.strerror or error}: {error.filename}" if error.filename else str(error.strerror or error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return error_answer(InsufficientResourcesError(what, "free some space"))
    return error_answer(LlmopsError(what, "see engine.log in the state directory"))


async def _on_unexpected(request: Request, error: Exception) -> Response:
    # The traceback is logged by uvicorn, which sees the exception again.
    what = f"{request.method} {request.url.path}"
    return error_answer(
        LlmopsError(f"the engine failed at {what}: {type(error).__name__}: {error}", "see engine.log in the state directory")
    )
