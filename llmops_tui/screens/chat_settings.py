"""The fields of a request as a line: `temperature=0.2 max_tokens=256`. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from llmops_tui.errors import UsageError

_NOT_HERE = ("messages", "model", "stream", "stream_options", "n", "version")


def read_settings(text: str) -> dict[str, Any]:
    """The fields; a value is read as YAML, as `--set` reads it. Raises UsageError."""
    from llmops_tui.commands.spec_file import apply_setting  # YAML is not needed for a first frame

    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"not readable: {error}", "write temperature=0.2 max_tokens=256") from None
    found: dict[str, Any] = {}
    for word in words:
        if "=" not in word:
            raise UsageError(f"{word!r} is not KEY=VALUE", "write temperature=0.2 max_tokens=256")
        try:
            apply_setting(found, word)
        except UsageError as error:
            raise UsageError(error.message.removeprefix("--set "), "write temperature=0.2 max_tokens=256") from None
    if wrong := next((name for name in _NOT_HERE if name in found), ""):
        raise UsageError(f"{wrong} is set by the page itself", "leave it out")
    return found


def settings_text(settings: Mapping[str, Any]) -> str:
    """The same fields as a line that reads back as they are."""
    return " ".join(shlex.quote(f"{name}={_written(value)}") for name, value in settings.items())


def _written(value: object) -> str:
    if isinstance(value, str):
        plain = (
            value and value.isalnum() and not value.isdigit() and value.lower() not in ("true", "false", "null", "yes", "no", "on", "off")
        )
        return value if plain else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=False)
