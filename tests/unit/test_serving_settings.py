"""`[serving]`: what the settings take, the gateway takes; what it would refuse is refused where it was written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from llmops_tui.engine.endpoints.compile import compile_config
from llmops_tui.engine.serving.gateway.config import parse_config
from llmops_tui.specs.settings_serving import ServingSettings

GOOD = {"base_url": "https://api.example.org/v1", "model": "big", "key_env": "BIG_KEY"}


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("base_url", "api.example.org", "must be an address"),
        ("base_url", "ftp://api.example.org", "must be an address"),
        ("base_url", "https://", "must be an address"),
        ("base_url", "https://user:secret@api.example.org/v1", "without a user"),
        ("base_url", "https://api.example.org/v1?key=secret", "without a user"),
        ("base_url", "https://api.example.org/v1#x", "without a user"),
        ("base_url", "https://api.example.org:0/v1", "without a user"),
        ("base_url", "https://api.example.org:99999/v1", "Port out of range"),
        ("base_url", "https://api.example.org/v1\r\nX-Evil: 1", "must be an address"),
        ("base_url", "https://api.example.org/{v1}", "must be an address"),
        ("key_env", "sk-secret", "must be the name of an environment variable"),
        ("api", "cohere", "Input should be"),
        ("model", "", "at least 1 character"),
        ("input_per_million", -1, "greater than or equal to 0"),
    ],
)
def test_a_provider_that_cannot_be_is_refused_by_its_field(field: str, value: Any, says: str) -> None:
    with pytest.raises(ValidationError) as refused:
        ServingSettings.model_validate({"providers": {"cloud": {**GOOD, field: value}}})
    assert says in str(refused.value)
    assert refused.value.errors()[0]["loc"] == ("providers", "cloud", field)


@pytest.mark.parametrize("name", ["", "two words", "a\nb", "ä", "x" * 61, "-a"])
def test_a_providers_name_that_could_not_stand_in_a_header_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        ServingSettings.model_validate({"providers": {name: GOOD}})


@pytest.mark.parametrize(("pattern", "replacement"), [("(", "x"), ("a", r"\9"), ("a", r"\g<name>"), ("a", "\\")])
def test_a_redactor_that_would_fail_is_refused(pattern: str, replacement: str) -> None:
    with pytest.raises(ValidationError):
        ServingSettings.model_validate({"redactors": [{"name": "n", "pattern": pattern, "replacement": replacement}]})


@pytest.mark.parametrize("url", ["https://api.example.org/v1", "http://127.0.0.1:8080", "https://[::1]:8443/a/b/", "https://x/v1beta/%41"])
def test_what_the_settings_take_the_gateway_takes(url: str) -> None:
    settings = ServingSettings.model_validate(
        {"providers": {"cloud.1/eu": {**GOOD, "base_url": url}}, "redactors": [{"name": "n", "pattern": "(a)+", "replacement": r"<\1>"}]}
    )
    config = parse_config(json.dumps(compile_config([], {}, [], settings)).encode())
    assert config.providers["cloud.1/eu"].base_url == url.rstrip("/")
    assert len(config.redactors) == len(settings.all_redactors)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "[::1]", "localhost"])
def test_an_address_of_this_box_needs_no_keys(host: str) -> None:
    assert not ServingSettings.model_validate({"host": host}).needs_keys


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "localhost.evil.example", "127.example.org", "box"])
def test_whatever_else_it_listens_on_needs_keys_and_may_not_go_without(host: str) -> None:
    assert ServingSettings.model_validate({"host": host}).needs_keys
    with pytest.raises(ValueError, match="anybody who reaches it could ask"):
        ServingSettings.model_validate({"host": host, "auth": "none"})
