"""The real small model: an endpoint by llama.cpp, swapped for the same weights by transformers, asked by the `openai` package."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from llmops_tui.commands.demo_assets import MODEL, is_intact, obtain, prepare
from tests.serving.serving_engine import Serving, serving_engine
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def files() -> tuple[Path, Path]:
    """GGUF and directory, fetched and converted once for all test runs of this user."""
    pytest.importorskip("torch")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmops-tui" / "tests"
    gguf = cache / "demo" / Path(MODEL.member).name
    if not is_intact(gguf, MODEL.sha256):
        gguf.parent.mkdir(parents=True, exist_ok=True)
        obtain(MODEL, gguf, print)
    return gguf, prepare(cache, print).model


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving_engine(tmp_path_factory.mktemp("home") / "state", None) as running:
        yield running


def test_what_training_wrote_takes_the_place_of_a_gguf_without_a_failed_request(real: Serving, files: tuple[Path, Path]) -> None:
    gguf, directory = files
    real.start("smol", {"model": str(gguf), "serve": {"slots": 2, "context": 512}})
    with openai.OpenAI(base_url=f"http://127.0.0.1:{real.port}/v1", api_key="none", max_retries=0, timeout=120) as client:

        def ask() -> str:
            answer = client.completions.create(model="smol", prompt="The capital of France is", max_tokens=4, temperature=0)
            assert answer.usage is not None
            assert answer.usage.completion_tokens > 0
            return answer.choices[0].text

        assert "Paris" in ask()
        real.client.serving.swap("smol", str(directory), {"runtime": "transformers", "slots": 2, "context": 512})
        wait_for(lambda: "Paris" in ask() and real.client.serving.endpoint("smol")["pending"] is None, 300)
        found = real.client.serving.endpoint("smol")
        leader = max(found["versions"], key=lambda version: version["weight"])
        assert {replica["runtime"] for replica in found["replicas"] if replica["version"] == leader["name"]} == {"transformers"}
        assert "Paris" in ask()
        chunks = client.chat.completions.create(model="smol", messages=HELLO, max_tokens=8, temperature=0, stream=True)  # type: ignore[arg-type]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)  # type: ignore[union-attr]
        run = next(replica["run"] for replica in found["replicas"] if replica["runtime"] == "transformers")
        # Unbounded, its cache takes most of the free memory: 13.8 GB on a box of 24.
        assert real.client.run(run)["latest"]["serve/rss_bytes"] < 3 << 30
        real.client.serving.rollback("smol")
        assert "Paris" in ask()
    real.stop("smol")
