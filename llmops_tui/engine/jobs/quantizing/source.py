"""The model that is quantized: its tokenizer, where it stops, and how it is heard, once for all forms."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from llmops_tui.engine.jobs import hardware, template_check
from llmops_tui.engine.jobs.divergence import Side, listen
from llmops_tui.engine.jobs.labels import EncodedRow
from llmops_tui.engine.jobs.loading import load_causal_model, load_tokenizer
from llmops_tui.engine.jobs.quantizing.gguf_speech import ends, stops_of
from llmops_tui.engine.jobs.quantizing.llama_heard import LlamaHeard
from llmops_tui.engine.jobs.quantizing.llama_library import LlamaModel
from llmops_tui.engine.jobs.reporting import Reporter
from llmops_tui.errors import UsageError


@dataclass(frozen=True)
class Source:
    """`path` of the model or the adapter, `base` of an adapter's; `stops`: the tokens that end its answers."""

    path: Path
    format: str
    base: Path | None
    tokenizer: PreTrainedTokenizerBase
    stops: list[int]


def read_source(prepared: dict[str, Any]) -> Source:
    """Without its weights. Raises UsageError for a GGUF file whose tokenizer transformers does not know."""
    path, form = Path(prepared["model"]["path"]), str(prepared["model"]["format"])
    base = Path(prepared["base"]["path"]) if prepared["base"] else None
    if form == "gguf":
        try:
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
        except Exception as error:  # whatever transformers says of a tokenizer it does not know
            raise UsageError(f"transformers does not read the tokenizer in {path}: {error}", "name the safetensors model") from error
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        return Source(path, form, None, tokenizer, stops_of(tokenizer, None))
    whole = base or path
    tokenizer = load_tokenizer(path if base is None or prepared["adapter_tokenizer"] else base)
    settings = GenerationConfig.from_pretrained(whole) if (whole / "generation_config.json").is_file() else None
    return Source(path, form, base, tokenizer, stops_of(tokenizer, settings))


class HeardSource:
    """What it says before each labelled token, and how many short answers it ends.

    Of a full model or an adapter the states are kept and the model is given back; of a GGUF file, heard by llama.cpp, the file is heard
    again for each form. `side` is None where nothing is compared. Close it.
    """

    def __init__(self, source: Source, rows: Sequence[EncodedRow], plan: hardware.Plan, library: Path | None, reporter: Reporter) -> None:
        self._source, self._rows, self._plan, self._library, self._reporter = source, rows, plan, library, reporter
        self._model: LlamaModel | None = None
        self._kept: Side | None = None
        self.ended: int | None = None
        if source.format == "gguf":
            if library is not None:
                self.ended = self._ended_by_llama()
            return
        reporter.phase("loading the model")
        model = load_causal_model(source.path, plan, source.base)
        if rows:
            reporter.phase("hearing the model", total=sum(len(row.input_ids) for row in rows), unit="tokens")
            budget = hardware.scoring_token_budget(plan.device)
            self._kept = listen(model, rows, pad_id=source.tokenizer.pad_token_id, token_budget=budget, progress=reporter.beat)
        reporter.phase("letting the model speak", total=2, unit="prompts")
        self.ended = template_check.count_ended(model, source.tokenizer, reporter.beat)
        del model
        gc.collect()

    @property
    def heard_by(self) -> str:
        return "llama.cpp" if self._source.format == "gguf" else f"torch in {str(self._plan.dtype).removeprefix('torch.')}"

    def side(self) -> Side | None:
        """For one comparison."""
        if not self._rows or self._source.format != "gguf":
            return self._kept
        self.close()
        self._model = self._open()
        return LlamaHeard(self._model, self._rows, range(len(self._rows)), lambda *_: None)

    def close(self) -> None:
        if self._model is not None:
            self._model.close()
            self._model = None

    def _open(self) -> LlamaModel:
        assert self._library is not None
        longest = max((len(row.input_ids) for row in self._rows), default=0)
        return LlamaModel(self._library, self._source.path, threads=self._plan.threads, context=longest)

    def _ended_by_llama(self) -> int:
        self._reporter.phase("letting the model speak", total=2, unit="prompts")
        prompts = template_check.ending_prompts(self._source.tokenizer)
        with self._open() as model:
            return sum(ends(model, prompt) for prompt in prompts)
