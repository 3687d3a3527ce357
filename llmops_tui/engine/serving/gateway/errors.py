"""What goes wrong, in OpenAI's shape: {"error": {"message", "type", "param", "code"}} with the status that clients act on."""

from __future__ import annotations

import orjson

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    499: "client_closed",
    502: "upstream_error",
    503: "unavailable_error",
    504: "timeout_error",
}


class GatewayError(Exception):
    """A request that cannot be answered as wished; `closes` when the connection is out of step and has to go too; `allow`: the methods
    that are taken there."""

    def __init__(
        self, status: int, message: str, code: str = "", param: str = "", retry_after: float = 0.0, closes: bool = False, allow: bytes = b""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.retry_after = retry_after
        self.closes = closes
        self.allow = allow

    def body(self) -> bytes:
        return error_body(self.status, self.message, self.code, self.param)


def error_body(status: int, message: str, code: str | None = "", param: str | None = "") -> bytes:
    """The JSON of an error, as clients of OpenAI read it."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param or None, "code": code or None}})


def upstream_error(status: int, raw: bytes) -> tuple[bytes, str, str]:
    """An upstream's error in OpenAI's shape, its message and its code, whatever shape it came in."""
    message, code, param, kind = "", "", "", ""
    try:
        answer = orjson.loads(raw)
    except ValueError:
        answer = None
        message = raw[:300].decode("utf-8", "replace").strip()
    found = answer.get("error", answer) if isinstance(answer, dict) else None
    if isinstance(found, dict):
        message = next((found[name] for name in ("message", "detail", "msg") if isinstance(found.get(name), str)), "")
        kind = found["type"] if isinstance(found.get("type"), str) else ""
        code = found["code"] if isinstance(found.get("code"), str) else ""
        param = found["param"] if isinstance(found.get("param"), str) else ""
    elif isinstance(found, str):
        message = found
    if kind == "exceed_context_size_error":  # llama.cpp's name for what OpenAI's clients look for as this code
        kind, code = "invalid_request_error", code or "context_length_exceeded"
    message = message or f"the model's server answered {status}"
    default = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    shaped = {"error": {"message": message, "type": kind or default, "param": param or None, "code": code or None}}
    return orjson.dumps(shaped), message, code
