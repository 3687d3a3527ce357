"""What a form has become, measured on its files: how far it is from its source, how fast it answers, and whether it still speaks as it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import GenerationConfig

from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.jobs import template_check
from llmops_tui.engine.jobs.divergence import Divergence, Heard, compare
from llmops_tui.engine.jobs.hardware import Plan
from llmops_tui.engine.jobs.labels import IGNORED, EncodedRow
from llmops_tui.engine.jobs.loading import load_tokenizer
from llmops_tui.engine.jobs.quantizing import speaking_apart
from llmops_tui.engine.jobs.quantizing.apart import run_apart
from llmops_tui.engine.jobs.quantizing.candidate import Candidate, Card
from llmops_tui.engine.jobs.quantizing.gguf_speech import ASKED, check_gguf
from llmops_tui.engine.jobs.quantizing.llama_heard import LlamaHeard
from llmops_tui.engine.jobs.quantizing.llama_library import LlamaModel
from llmops_tui.engine.jobs.quantizing.server_answers import Wanted, ask_server
from llmops_tui.engine.jobs.quantizing.source import HeardSource, Source
from llmops_tui.engine.jobs.reporting import Reporter
from llmops_tui.specs.answers import ModelCheck
from llmops_tui.specs.quantize import MeasureChoice


@dataclass(frozen=True)
class Measurer:
    """`rows` are empty where nothing is compared; `base_gguf`: of an adapter's base."""

    choice: MeasureChoice
    source: Source
    heard: HeardSource
    rows: Sequence[EncodedRow]
    plan: Plan
    run: RunDir
    scratch: Path
    reporter: Reporter
    llamacpp: dict[str, str] | None

    def gguf(self, candidate: Candidate, base_gguf: Path | None) -> tuple[Card, list[ModelCheck]]:
        """Heard by llama.cpp's library, timed on its server."""
        assert self.llamacpp is not None
        model, adapter = (base_gguf, candidate.path) if base_gguf else (candidate.path, None)
        reporter, word = self.reporter, candidate.word
        prompts = self._prompts()
        reporter.phase(f"letting {word} answer", total=len(prompts) + 1, unit="prompts")
        told = ask_server(
            self.llamacpp, model, Wanted(prompts, self.choice.answer_tokens, ASKED), threads=self.plan.threads, workspace=self.scratch,
            log=self.run.log, gpu=self.plan.device == "cuda", progress=reporter.beat, adapter=adapter,
        )  # fmt: skip
        card: Card = {}
        if told.speed is not None:
            card.update(
                tokens_per_second=told.speed.tokens_per_second, ttft_seconds=told.speed.ttft_seconds, memory_bytes=told.speed.memory_bytes,
                speed_by=f"llama.cpp's server (xllamacpp {self.llamacpp['version']}), one request at a time, {self.plan.threads} threads",
            )  # fmt: skip
        longest = max((len(row.input_ids) for row in self.rows), default=0)
        library = Path(self.llamacpp["library"])
        with LlamaModel(library, model, threads=self.plan.threads, context=longest, adapter=adapter) as loaded:
            side = self.heard.side() if self.choice.quality else None
            if side is not None:
                reporter.phase(f"hearing {word}", total=sum(len(row.input_ids) for row in self.rows), unit="tokens")
                order = side.row.unique_consecutive().tolist()
                divergence = compare(side, LlamaHeard(loaded, self.rows, order, reporter.beat))
                card.update(_figures(divergence), heard_by=f"llama.cpp itself (xllamacpp {self.llamacpp['version']})")
            reporter.phase(f"letting {word} speak", total=2, unit="prompts")
            return card, check_gguf(loaded, self.source.tokenizer, self.source.stops, self.heard.ended, told.rendered)

    def directory(self, candidate: Candidate, python: str) -> tuple[Card, list[ModelCheck]]:
        """Heard and timed by transformers, in a process of the Python that can load it."""
        reporter, word = self.reporter, candidate.word
        side = self.heard.side() if self.choice.quality else None
        heard = self.scratch / "heard.safetensors"
        asked = {
            "model": str(candidate.path), "device": self.plan.device, "threads": self.plan.threads,
            "rows": [{"ids": row.input_ids.tolist(), "labels": row.labels.tolist()} for row in self.rows] if side else [],
            "order": side.row.unique_consecutive().tolist() if side else [], "heard": str(heard) if side else "",
            "prompts": self._prompts(), "answer_tokens": self.choice.answer_tokens,
            "endings": template_check.ending_prompts(self.source.tokenizer), "stops": self.source.stops,
            "most_tokens": template_check.MOST_TOKENS,
        }  # fmt: skip
        reporter.phase(f"hearing {word}", total=1.0, unit="of it")
        told = run_apart(python, speaking_apart.__file__, asked, self.scratch, lambda done, total: reporter.beat(done / (total or 1), 1.0))
        card: Card = {}
        if "tokens_per_second" in told:
            card.update({name: told[name] for name in ("tokens_per_second", "ttft_seconds", "memory_bytes")})
            card["speed_by"] = f"transformers in {told['dtype']}, one request at a time, {self.plan.threads} threads"
        if side is not None:
            card.update(_figures(compare(side, read_heard(heard, self.rows, asked["order"]))), heard_by=f"transformers in {told['dtype']}")
            heard.unlink()
        produced = load_tokenizer(candidate.path)
        settings = GenerationConfig.from_pretrained(candidate.path)
        return card, template_check.check_speech(self.source.tokenizer, produced, settings, self.heard.ended, int(told["ended"]))

    def _prompts(self) -> list[list[int]]:
        """What stands before the first answer of the rows, as often as is asked for."""
        if not self.choice.speed or not self.rows:
            return []
        found = [prompt_of(row) for row in self.rows]
        return [found[number % len(found)] for number in range(self.choice.prompts)]


def prompt_of(row: EncodedRow) -> list[int]:
    """The tokens before the first that is labelled; of a row that is labelled from its beginning its first half."""
    first = next((place for place, label in enumerate(row.labels) if label != IGNORED), 1)
    return row.input_ids[: first if first > 1 else max(1, len(row.input_ids) // 2)].tolist()


def read_heard(path: Path, rows: Sequence[EncodedRow], order: Sequence[int]) -> Heard:
    """What speaking_apart.py wrote, as one side of a comparison."""
    found = load_file(path)
    weight = found["weight"].float()
    head = torch.nn.Linear(weight.shape[1], weight.shape[0], bias="bias" in found)
    head.weight.data = weight
    if "bias" in found:
        head.bias.data = found["bias"].float()
    targets = [[token for token in rows[index].labels[1:] if token != IGNORED] for index in order]
    row = [index for index, tokens in zip(order, targets, strict=True) for _ in tokens]
    return Heard(found["states"].float(), head, torch.tensor([token for tokens in targets for token in tokens]), torch.tensor(row))


def _figures(divergence: Divergence) -> Card:
    return {
        **divergence.to_json(),
        "perplexity_source": divergence.perplexity_first,
        "perplexity": divergence.perplexity_second,
    }


def faults_of(card: Card, checks: list[ModelCheck]) -> list[str]:
    """Why a form is no model to be given a name."""
    found = template_check.faults(checks)
    perplexity: Any = card.get("perplexity")
    if perplexity is not None and not 0 < perplexity < float("inf"):
        found.append(f"its perplexity is {perplexity}")
    return found
