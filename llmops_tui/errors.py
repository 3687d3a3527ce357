"""The one hierarchy of errors: what happened, to which thing, and what to do next, in one line."""

from __future__ import annotations

from typing import Any


class LlmopsError(Exception):
    """An error a person should read. `exit_code` follows the command line's contract.

    `fields` names the places in the user's input that are wrong: `{"field": "optim.learning_rate", "message": "…"}`.
    """

    kind = "error"
    exit_code = 1
    http_status = 500

    def __init__(self, message: str, next_step: str = "", fields: list[dict[str, str]] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.fields = fields or []

    def __str__(self) -> str:
        return f"{self.message}; {self.next_step}" if self.next_step else self.message

    def to_json(self) -> dict[str, Any]:
        """The body of an API error: `{"error": {"kind", "message", "next_step", "exit_code", "fields"}}`."""
        return {
            "error": {
                "kind": self.kind,
                "message": self.message,
                "next_step": self.next_step,
                "exit_code": self.exit_code,
                "fields": self.fields,
            }
        }


class UsageError(LlmopsError):
    """The request itself is wrong: unknown option, bad value, invalid spec or data."""

    kind = "usage"
    exit_code = 2
    http_status = 422


class NotFoundError(LlmopsError):
    """The named run, model, dataset or file does not exist."""

    kind = "not_found"
    exit_code = 4
    http_status = 404


class ConflictError(LlmopsError):
    """The thing exists but is in a state that does not allow the request."""

    kind = "conflict"
    exit_code = 1
    http_status = 409


class GateFailedError(LlmopsError):
    """Something was made and did not pass the check that stands before its use: nothing of it is registered."""

    kind = "gate_failed"
    exit_code = 3
    http_status = 409


class InsufficientResourcesError(LlmopsError):
    """Not enough GPU memory, disk or CPU slots, now or ever on this box."""

    kind = "insufficient_resources"
    exit_code = 5
    http_status = 507


class EngineUnavailableError(LlmopsError):
    """No engine answers on the socket, or it cannot be started."""

    kind = "engine_unavailable"
    exit_code = 1
    http_status = 503


class PermissionDeniedError(LlmopsError):
    """Another user's engine, socket or directory."""

    kind = "permission_denied"
    exit_code = 1
    http_status = 403


_BY_KIND: dict[str, type[LlmopsError]] = {
    cls.kind: cls
    for cls in (
        LlmopsError,
        UsageError,
        NotFoundError,
        ConflictError,
        GateFailedError,
        InsufficientResourcesError,
        EngineUnavailableError,
        PermissionDeniedError,
    )
}


def from_json(body: dict[str, Any]) -> LlmopsError:
    """Rebuild the error an API answer carries, so that a client raises what the engine raised."""
    error = body.get("error", {})
    cls = _BY_KIND.get(error.get("kind", ""), LlmopsError)
    return cls(error.get("message", "the engine failed without saying why"), error.get("next_step", ""), error.get("fields"))
