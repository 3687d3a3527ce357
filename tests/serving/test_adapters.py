"""Many adapters on one base, by the real llama.cpp: each answers as itself, comes and goes without a failed request, and fits its base."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_tui.errors import ConflictError, LlmopsError, UsageError
from tests.serving.serving_engine import Load, Serving, serving_engine
from tests.serving.tiny_gguf import write_adapter, write_model
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("files")
    write_model(directory / "base.gguf")
    write_model(directory / "wide.gguf", hidden=128)
    write_adapter(directory / "one.gguf", seed=1)
    write_adapter(directory / "two.gguf", seed=2)
    write_adapter(directory / "wide-one.gguf", hidden=128)
    write_adapter(directory / "qwen.gguf", architecture="qwen2")
    return directory


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, files: Path) -> Iterator[Serving]:
    with serving_engine(tmp_path_factory.mktemp("home") / "state", None) as running:
        running.start("base", {"model": str(files / "base.gguf"), "serve": {"slots": 2, "context": 128}})
        yield running


def ready(serving: Serving, version: str) -> bool:
    found = next(one for one in serving.client.serving.endpoint("base")["versions"] if one["name"] == version)
    return found["state"] == "ready"


def test_adapters_come_while_the_base_answers_and_each_answers_as_itself(real: Serving, files: Path) -> None:
    plain = real.says("base")
    with Load(real, "base", threads=2) as load:
        for name in ("one", "two"):
            real.client.serving.add_adapter("base", name, str(files / f"{name}.gguf"))
            wait_for(lambda name=name: ready(real, name), 60)  # type: ignore[misc]
    assert not load.failed
    assert {text for _, _, text in load.answers} == {plain}
    said = {real.says("base"), real.says("base:one"), real.says("base:two")}
    assert len(said) == 3
    assert real.says("base") == plain
    wait_for(lambda: len(real.living("base")) == 1, 60, "the server without the adapters to go")


def test_an_answer_names_the_version_that_gave_it_and_that_can_be_asked_for(real: Serving) -> None:
    names = {real.ask(model)[1]["model"] for model in ("base", "base:v1")}
    names.add(real.ask("base", path="/v1/completions")[1]["model"])
    assert names == {"base:v1"}


def test_a_route_to_an_adapter_is_rolled_back_like_any_other(real: Serving) -> None:
    one, plain = real.says("base:one"), real.says("base")
    real.client.serving.route("base", {"one": 1})
    assert real.says("base") == one
    real.client.serving.rollback("base")
    assert real.says("base") == plain


def test_one_that_is_removed_is_no_model_any_more_and_its_base_cannot_go_before_it(real: Serving) -> None:
    with pytest.raises(ConflictError, match=r"v1 of base (gets requests|carries the adapters)"):
        real.client.serving.remove_version("base", "v1")
    real.client.serving.remove_version("base", "two")
    assert real.ask("base:two")[0] == 404
    assert real.ask("base:one")[0] == 200


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("wide-one", r"was made for another base: its blk\.0\.\w+\.weight does not fit"),
        ("qwen", "was made for the architecture qwen2, and the model is llama"),
        ("wide", "is a whole model, not an adapter"),
    ],
)
def test_an_adapter_of_another_base_is_refused(real: Serving, files: Path, file: str, words: str) -> None:
    before = real.client.serving.endpoint("base")["revision"]
    with pytest.raises(LlmopsError, match=words):
        real.client.serving.add_adapter("base", "wrong", str(files / f"{file}.gguf"))
    assert real.client.serving.endpoint("base")["revision"] == before


def test_an_adapter_alone_and_one_on_a_provider_are_no_models_to_serve(real: Serving, files: Path) -> None:
    with pytest.raises(UsageError, match="is an adapter without its base"):
        real.client.serving.start({"name": "alone", "versions": [{"model": str(files / "one.gguf")}]})
    with pytest.raises(UsageError, match="no other version is named 'nowhere'"):
        real.client.serving.add_adapter("base", "lost", str(files / "one.gguf"), "nowhere")
