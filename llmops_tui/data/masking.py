"""What is shown of environment variables: never a secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# TOKENIZERS_PARALLELISM is no secret.
_SECRET = re.compile(r"KEY|TOKEN(?!IZER)|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|(?:^|_)(?:PASS|PAT|AUTH|DSN)$|_PWD$", re.IGNORECASE)
# To the last @ before the path: a password may hold one.
_URL_LOGIN = re.compile(r"(?<=://)[^/\s]+(?=@)")
_MASK = "***"


def is_secret(name: str) -> bool:
    """Whether a variable is a secret by its name."""
    return _SECRET.search(name) is not None


def masked(variables: Mapping[str, str]) -> dict[str, str]:
    """Variables fit to be shown: secrets by name and logins in URLs replaced by ***."""
    return {name: _MASK if is_secret(name) else _URL_LOGIN.sub(_MASK, value) for name, value in sorted(variables.items())}


def without_secrets(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A spec fit to be shown to others than its owner."""
    env = spec.get("env")
    if not isinstance(env, Mapping) or not env:
        return dict(spec)
    return {**spec, "env": masked({str(name): str(value) for name, value in env.items()})}
