"""The door of the API: every request passes here, and every change is allowed here, or not, and noted in the audit log.

Outside of all routes, so that a route that changes something cannot forget it.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llmops_tui.engine.answering import error_answer
from llmops_tui.engine.parts import Parts
from llmops_tui.engine.peers import LONGEST_BODY_BYTES, too_large
from llmops_tui.engine.people import Person, let_ask
from llmops_tui.engine.permissions import Deed, deed_of, objection
from llmops_tui.errors import LlmopsError, PermissionDeniedError


class Door:
    """ASGI middleware over the engine's parts."""

    def __init__(self, app: ASGIApp, parts: Parts) -> None:
        self._app = app
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        uid = int(scope.get("state", {}).get("peer_uid", os.geteuid()))
        person = self._parts.people.person(uid)
        let_ask(person)
        if person.role == "none":
            error: LlmopsError = PermissionDeniedError(
                f"{person.user} may not look here", "ask an admin of the engine ([people] in its settings)"
            )
            await error_answer(error)(scope, receive, send)
            return
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        body = await _whole_body(receive)
        if body is None:  # the client left before it had said what it wants
            return
        if len(body) > LONGEST_BODY_BYTES:
            await error_answer(too_large(f"{scope['method']} {scope['path']}: the request"), 413)(scope, receive, send)
            return
        deed = deed_of(scope["method"], scope["path"], body)
        if deed is None:
            await self._app(scope, _replay(body, receive), send)
            return
        try:
            await self._admit(person, deed, scope, _replay(body, receive), send)
        except LlmopsError as refused:
            await error_answer(refused)(scope, receive, send)

    async def _admit(self, person: Person, deed: Deed, scope: Scope, receive: Receive, send: Send) -> None:
        """Do it between two lines of the audit log; the answer leaves after the second. Raises why it is not done."""
        audit = self._parts.audit
        problem = objection(person, deed, self._owner(deed), read_only=self._parts.people.read_only)
        if problem is not None:
            await asyncio.to_thread(audit.refuse, person, deed, problem.message)
            raise problem
        ticket = await asyncio.to_thread(audit.begin, person, deed)
        answer: list[Message] = []

        async def keep(message: Message) -> None:
            answer.append(message)

        try:
            await self._app(scope, receive, keep)
        except BaseException as error:
            await asyncio.shield(asyncio.to_thread(audit.close, ticket, "failed", f"{type(error).__name__}: {error}"))
            # What the application had to say (its last resort answers, then raises for the log) is said first.
            for message in answer:
                await send(message)
            raise
        good, reason, target = _outcome(answer)
        await asyncio.shield(
            asyncio.to_thread(audit.close, ticket, "ok" if good else "failed", reason, target if deed.action == "submit" else "")
        )
        for message in answer:
            await send(message)

    def _owner(self, deed: Deed) -> tuple[str, int] | None:
        if deed.run:
            return self._parts.scheduler.owner(deed.run)
        if deed.reservation:
            return self._parts.reservations.owner(deed.reservation)
        if deed.endpoint:
            return self._parts.endpoints.keeping.book.owner(deed.endpoint)
        if deed.key:
            return self._parts.endpoints.keeping.keys.owner(deed.key)
        return None


async def _whole_body(receive: Receive) -> bytes | None:
    """The request's body, a little more than the most that is taken, or None when the client hung up."""
    parts: list[bytes] = []
    taken = 0
    while taken <= LONGEST_BODY_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        taken += len(parts[-1])
        if not message.get("more_body", False):
            break
    return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    told = False

    async def again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _outcome(answer: list[Message]) -> tuple[bool, str, str]:
    """Whether it went well, why not, and the id the answer names."""
    status = next((int(message["status"]) for message in answer if message["type"] == "http.response.start"), 500)
    try:
        value: Any = json.loads(b"".join(message.get("body", b"") for message in answer if message["type"] == "http.response.body"))
    except ValueError:
        value = None
    body = value if isinstance(value, dict) else {}
    if status < 400:
        return True, "", str(body.get("id") or "")
    error = body.get("error")
    return False, str(error.get("message") or "") if isinstance(error, dict) else f"status {status}", ""
