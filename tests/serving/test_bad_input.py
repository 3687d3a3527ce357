"""What cannot be: refused by name before anything starts or changes, by every route of endpoints and keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmops_tui.errors import ConflictError, InsufficientResourcesError, LlmopsError, NotFoundError, UsageError
from tests.catalog_files import write_rows
from tests.serving.serving_engine import Serving
from tests.serving.tiny_gguf import write_model


@pytest.fixture(scope="module")
def standing(serving: Serving, models: Path) -> Serving:
    """With one endpoint called `there`."""
    serving.start("there", models / "first.gguf", aliases=["its-alias"])
    return serving


def spec(models: Path, **more: Any) -> dict[str, Any]:
    return {"name": "new", "versions": [{"model": str(models / "first.gguf")}], **more}


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"name": "No Good"}, UsageError, "name: use 1 to 40 of a-z"),
        ({"name": ""}, UsageError, "name"),
        ({"name": "there"}, ConflictError, "the name 'there' is in use"),
        ({"name": "its-alias"}, ConflictError, "in use: it leads to there"),
        ({"aliases": ["there"]}, ConflictError, "the name 'there' is in use"),
        ({"aliases": ["a b"]}, UsageError, "'a b' is no name a request could use"),
        ({"versions": []}, UsageError, "versions"),
        ({"versions": [{"model": "/nowhere/x.gguf"}]}, NotFoundError, "/nowhere/x.gguf"),
        ({"versions": [{"model": "a", "provider": "b"}]}, UsageError, "name a model or a provider"),
        ({"versions": [{"provider": "nobody"}]}, NotFoundError, "no provider 'nobody'"),
        ({"fallbacks": ["nobody"]}, NotFoundError, "fallbacks: no endpoint 'nobody'"),
        ({"fallbacks": ["new"]}, UsageError, "cannot fall back to itself"),
        ({"mirror": [{"version": "v9", "fraction": 0.5}]}, UsageError, "no version is named 'v9'"),
        ({"mirror": [{"version": "v1", "fraction": 2}]}, UsageError, "mirror.0.fraction"),
        ({"balance": "dice"}, UsageError, "balance"),
        ({"idle_unload_seconds": -1}, UsageError, "idle_unload_seconds"),
        ({"retries": 1e9}, UsageError, "retries"),
        ({"no_such_key": 1}, UsageError, "no_such_key"),
        ({"record": {"text_fraction": "nan"}}, UsageError, "record.text_fraction"),
    ],
)
def test_a_spec_that_cannot_be_is_refused_at_its_field(standing: Serving, models: Path, change: Any, error: Any, words: str) -> None:
    names = [endpoint["name"] for endpoint in standing.client.serving.endpoints()]
    with pytest.raises(error, match=words) as refused:
        standing.client.serving.start(spec(models, **change))
    assert "\n" not in str(refused.value)
    assert [endpoint["name"] for endpoint in standing.client.serving.endpoints()] == names


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        ({"context": 1}, "context"),
        ({"context": 10**6}, "context: the model was made for 2048 tokens"),
        ({"slots": 0}, "slots"),
        ({"threads": 4096}, "threads: 4096 are more than the"),
        ({"runtime": "vllm"}, "vllm does not serve a GGUF file"),
        ({"runtime": "magic"}, "runtime"),
        ({"port": 80}, "'port' is set by the endpoint itself"),
        ({"arguments": ["512"]}, "'512' follows no --setting"),
        ({"chat_template": "/nowhere.jinja"}, "/nowhere.jinja: no such file"),
        ({"restart": {"first_seconds": 9, "most_seconds": 1}}, "most_seconds must not be less"),
    ],
)
def test_a_server_that_cannot_be_is_refused_before_the_endpoint_is(standing: Serving, models: Path, serve: Any, words: str) -> None:
    with pytest.raises(LlmopsError, match=words):
        standing.client.serving.start({"name": "new", "versions": [{"model": str(models / "first.gguf"), "serve": serve}]})
    with pytest.raises(NotFoundError):
        standing.client.serving.endpoint("new")


def test_more_memory_than_the_box_has_is_refused_with_what_would_fit(standing: Serving, tmp_path: Path) -> None:
    long = write_model(tmp_path / "long.gguf", context=1 << 22)
    with pytest.raises(InsufficientResourcesError, match=r"needs .* for 4096 × 4194304 tokens, and this box has .* to give; .* fits"):
        standing.client.serving.start({"name": "new", "versions": [{"model": str(long), "serve": {"slots": 4096, "context": 1 << 22}}]})


def test_a_gguf_cut_short_and_what_is_no_model_are_refused(standing: Serving, tmp_path: Path) -> None:
    whole = write_model(tmp_path / "whole.gguf").read_bytes()
    for name, content, words in (
        ("short.gguf", whole[: len(whole) // 2], r"short\.gguf is cut off: [\d,]+ of [\d,]+ bytes"),
        ("header.gguf", whole[:100], "the file is truncated or damaged"),
        ("text.gguf", b"hello", "text.gguf"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(LlmopsError, match=words):
            standing.client.serving.start({"name": "new", "versions": [{"model": str(tmp_path / name)}]})
    rows = write_rows(tmp_path / "rows.jsonl", [{"question": "a", "answer": "b"}])
    with pytest.raises(LlmopsError, match=r"rows\.jsonl"):
        standing.client.serving.start({"name": "new", "versions": [{"model": str(rows)}]})


@pytest.mark.parametrize(
    ("verb", "arguments", "error", "words"),
    [
        ("route", {}, UsageError, "nothing is to be changed"),
        ("route", {"weights": {"v9": 1}}, NotFoundError, "has no version 'v9'"),
        ("route", {"weights": {"v1": -1}}, UsageError, "a weight must be 0 or more"),
        ("route", {"weights": {"v1": 0}}, UsageError, "add up to 0"),
        ("route", {"weights": {"v1": 1e9}}, UsageError, "at most 1000000"),
        ("route", {"mirror": {"v1": 3}}, UsageError, "from 0 to 1"),
        ("route", {"fallbacks": ["nobody"]}, NotFoundError, "no endpoint 'nobody'"),
        ("route", {"sticky": "glue"}, UsageError, "sticky"),
        ("swap", {"model": "/nowhere.gguf"}, NotFoundError, "/nowhere.gguf"),
        ("swap", {"model": ""}, UsageError, "model"),
        ("scale", {"count": 65}, UsageError, "from 0 to 64"),
        ("scale", {"count": 0}, ConflictError, "gets requests and needs a server"),
        ("scale", {"count": 1, "version": "v9"}, NotFoundError, "no version 'v9'"),
        ("add_version", {"version": {"model": "/nowhere.gguf"}}, NotFoundError, "/nowhere.gguf"),
        ("add_version", {"version": {}}, UsageError, "name a model or a provider"),
        ("add_version", {"version": {"model": "x", "replicas": "much"}}, UsageError, "replicas"),
        ("remove_version", {"version": "v1"}, ConflictError, "is the only version"),
        ("remove_version", {"version": "v9"}, NotFoundError, "no version 'v9'"),
    ],
)
def test_a_change_that_cannot_be_changes_nothing(standing: Serving, verb: str, arguments: Any, error: Any, words: str) -> None:
    before = standing.client.serving.endpoint("there")
    with pytest.raises(error, match=words):
        getattr(standing.client.serving, verb)("there", **arguments)
    after = standing.client.serving.endpoint("there")
    assert (after["revision"], after["spec"]) == (before["revision"], before["spec"])
    assert standing.says("there") == "first"


def test_what_is_not_there_is_not_found_by_any_route(standing: Serving) -> None:
    calls = standing.client.serving
    for ask in (
        lambda: calls.endpoint("nobody"), lambda: calls.stop("nobody"), lambda: calls.rollback("nobody"), lambda: calls.pin("nobody"),
        lambda: calls.scale("nobody", 1), lambda: calls.route("nobody", {"v1": 1}), lambda: calls.swap("nobody", "x"),
        lambda: calls.remove_version("nobody", "v1"), lambda: calls.chat("nobody", {"messages": []}), lambda: calls.revoke_key("nobody"),
    ):  # fmt: skip
        with pytest.raises(NotFoundError, match="nobody"):
            ask()


def test_keys_that_cannot_be_are_refused(standing: Serving) -> None:
    calls, before = standing.client.serving, len(standing.client.serving.keys())
    for limits, error, words in (
        ({"endpoints": []}, UsageError, "endpoints"),
        ({"endpoints": ["nobody"]}, NotFoundError, "no endpoint 'nobody'"),
        ({"requests_per_minute": -1}, UsageError, "requests_per_minute"),
        ({"tokens_per_day": 1.5}, UsageError, "tokens_per_day"),
        ({"surprise": 1}, UsageError, "surprise"),
    ):
        with pytest.raises(error, match=words):
            calls.create_key("k", **limits)
    with pytest.raises(UsageError, match="name"):
        calls.create_key("")
    assert len(calls.keys()) == before


def test_a_key_for_an_alias_is_one_for_its_endpoint(standing: Serving) -> None:
    made = standing.client.serving.create_key("aliased", endpoints=["its-alias", "there"])
    assert made["endpoints"] == ["there"]
    standing.client.serving.revoke_key(made["id"])


def test_a_runtime_that_the_settings_place_is_not_installed_elsewhere(standing: Serving) -> None:
    runs = standing.client.runs()["total"]
    with pytest.raises(ConflictError, match=r"the settings say where llamacpp is: .*; take runtimes\.llamacpp out of them"):
        standing.client.serving.install_runtime("llamacpp")
    assert standing.client.runs()["total"] == runs
