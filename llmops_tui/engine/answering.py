"""What every route needs: the engine's parts, JSON as we mean it, streams, and where the caller stands."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pwd
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Query, Request
from fastapi.responses import Response
from starlette.responses import ContentStream, StreamingResponse

from llmops_tui.engine.parts import Parts
from llmops_tui.engine.people import who_asks
from llmops_tui.errors import LlmopsError, UsageError


async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


EngineParts = Annotated[Parts, Depends(_parts)]
# Unix seconds of a request. 1e11 is the year 5138: what lies above it is milliseconds given by mistake.
Moment = Annotated[float, Query(ge=0, lt=1e11, allow_inf_nan=False)]


def answer(value: object, status: int = 200) -> Response:
    """JSON as it is: our own typed dictionaries need no second validation. NaN and infinities become null."""
    try:
        content = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:
        content = json.dumps(_finite(value), allow_nan=False, separators=(",", ":"))
    return Response(content, status, media_type="application/json")


def error_answer(error: LlmopsError, status: int | None = None) -> Response:
    """The one shape of every error."""
    return answer(error.to_json(), status or error.http_status)


def event_stream(content: ContentStream) -> StreamingResponse:
    """Server-sent events; each chunk is sent when the client took the one before."""
    return StreamingResponse(content, media_type="text/event-stream", headers={"cache-control": "no-store"})


def caller_directory(cwd: str) -> Path:
    """The directory relative paths of a request are meant from. Raises UsageError for one that is not absolute."""
    if not os.path.isabs(cwd) or "\0" in cwd:
        raise UsageError(f"cwd: {cwd!r} is not an absolute path", fields=[{"field": "cwd", "message": "must be an absolute path"}])
    return Path(cwd)


def caller_path(cwd: str, path: str) -> Path:
    """A path of a request, absolute. Raises UsageError for an empty one."""
    if not path or "\0" in path:
        raise UsageError(f"path: {path!r} names no file", fields=[{"field": "path", "message": "names no file"}])
    return caller_directory(cwd) / _with_home_of_asker(path)


def _with_home_of_asker(path: str) -> str:
    """`~` is the home of the one who asks, which need not be the engine's."""
    uid = who_asks().uid
    if uid != os.geteuid() and (path == "~" or path.startswith("~/")):
        with contextlib.suppress(KeyError):
            return pwd.getpwuid(uid).pw_dir + path[1:]
    return os.path.expanduser(path)


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
