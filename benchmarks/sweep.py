"""A full grid of 27 points beside a sweep of the same 27 trials with ASHA: the loss each finds, and the tokens each learns from.

    python benchmarks/sweep.py [--quick] [--data FILE] [--steps N] [--work DIR]

Real training of a tiny model (Llama of 2 layers, hidden 64, a BPE vocabulary of 512 trained on the rows) on real rows (Fiqa), every
weight trained, by the `train` job's own function in this process. What to try next, whom to end and when to stop is decided by the
very functions the engine conducts sweeps with (engine/sweeps: decide, suggest, asha, reports); only the queue is missing: trials run
one after the other here. The grid's 27 points: learning rate x schedule x warm-up. Both begin from the same weights and see the
same rows in the same order; the held-out loss is over the same rows. The bar: a loss within 2 % of the grid's best, with at most 45 %
of its tokens. `--quick` takes a third of the steps.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="")

from llmops_tui.commands.demo_assets import prepare
from llmops_tui.data.rundir import RunDir, append_line
from llmops_tui.engine.jobs.event_writer import EventWriter
from llmops_tui.engine.jobs.outcome import run_job
from llmops_tui.engine.jobs.train import train
from llmops_tui.engine.sweeps.decide import decide
from llmops_tui.engine.sweeps.plan import trial_spec
from llmops_tui.engine.sweeps.reports import ReportReader
from llmops_tui.engine.sweeps.suggest import suggest
from llmops_tui.engine.sweeps.trials import PRUNED, Trial, best, best_first
from llmops_tui.paths import find_home
from llmops_tui.specs.sweep import SweepSpec

BARS = {"loss_excess": 0.02, "token_share": 0.45}
STEPS, QUICK_STEPS = 27, 9
LENGTH = 96
SPACE: dict[str, Any] = {
    "optim.learning_rate": [3e-4, 3e-3, 3e-2],
    "optim.schedule": ["cosine", "linear", "constant"],
    "optim.warmup_fraction": [0.0, 0.1, 0.3],
}


def main() -> int:
    """Print the table and the JSON line; 0 where the bar holds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a third of the steps")
    parser.add_argument("--data", type=Path, help="rows; default: the demo's Fiqa rows")
    parser.add_argument("--steps", type=int, help=f"steps a trial (default: {STEPS}; quick: {QUICK_STEPS})")
    parser.add_argument("--work", type=Path, help="where the trials' directories go; default: a temporary one")
    options = parser.parse_args()
    rows = options.data or prepare(find_home().cache, lambda line: print(line, file=sys.stderr)).data
    steps = options.steps or (QUICK_STEPS if options.quick else STEPS)
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        model = make_model(work / "model", rows)
        grid = sweep(work / "grid", model, rows, steps, pruner="none")
        asha = sweep(work / "asha", model, rows, steps, pruner="asha")
    return report(grid, asha, steps)


def sweep(work: Path, model: Path, rows: Path, steps: int, *, pruner: str) -> list[Trial]:
    """Every trial of it, one after the other, each ended early where the sweep says so."""
    spec = SweepSpec.model_validate(
        {
            "base": {
                "model": str(model),
                "dataset": {"path": str(rows), "format": "question_answer", "limit": 160, "eval_fraction": 0.2, "eval_limit": 32},
                "adaptation": "full", "max_steps": steps, "evaluate_every": max(1, steps // 9), "micro_batch": 4, "max_length": LENGTH,
                "sample_tokens": 1, "threads": 1,
            },
            "space": SPACE, "sampler": "grid", "pruner": pruner, "parallel": 1,
        }
    )  # fmt: skip
    trials: list[Trial] = []
    while True:
        now = decide(spec, trials, since=0.0, now=time.time(), stopping=False, room=True)
        if now.end is not None or now.begin is None:
            print(f"{pruner}: {now.end.reason if now.end else 'stuck'}", flush=True)
            return trials
        params = suggest(spec, trials, now.begin)
        run = RunDir(work / f"train-{pruner}-t{now.begin:02d}-{now.begin:04d}")
        wish = trial_spec(spec, pruner, pruner, 0, now.begin, params)
        trials.append(run_trial(spec, trials, Trial(now.begin, run.id, "running", params), run, wish.model_dump(mode="json"), model, rows))
        last = trials[-1]
        print(f"{last.run_id} {last.state:>8} {last.value or float('nan'):.4f} {last.tokens:>7} tokens {dict(params)}", flush=True)


def run_trial(spec: SweepSpec, before: list[Trial], trial: Trial, run: RunDir, values: dict[str, Any], model: Path, rows: Path) -> Trial:
    """The job itself, in this process; after each evaluation the sweep is asked, as the engine asks it."""
    run.path.mkdir(parents=True)
    prepared = {"model": {"path": str(model), "format": "full"}, "dataset": {"path": str(rows), "format": "question_answer"}}
    run.spec.write_text(json.dumps({"id": run.id, "schema": 1, "spec": values, "prepared": prepared}))
    os.environ.update(LLMOPS_RUN_DIR=str(run.path), LLMOPS_ATTEMPT="1")
    reader = ReportReader(run.events, spec.metric)
    ended: list[str] = []

    def so_far(state: Any, reason: str = "") -> Trial:
        reader.read()
        return Trial(trial.number, run.id, state, trial.params, tuple(reader.reports), reader.tokens, reason, ended_at=float(trial.number))

    def ask() -> None:
        now = decide(spec, [*before, so_far("running")], since=0.0, now=time.time(), stopping=False, room=False)
        for reason in (now.prune or {}).values():
            ended.append(reason)
            append_line(run.control, {"t": time.time(), "command": "stop", "by": os.getuid()})

    with open(run.log, "a") as log, redirect_stdout(log), watched(spec.metric, lambda: ask() if not ended else None):
        code = run_job(train, "")
    if ended and ended[0].startswith(PRUNED):
        return so_far("pruned", ended[0])
    return so_far("complete" if code == 0 else "failed", "" if code == 0 else f"exit code {code}: see {run.log}")


class watched:  # noqa: N801 - used as a verb: with watched(metric, ask)
    """Calls `ask` after each record of the metric beyond step 0, where the engine would see it come."""

    def __init__(self, metric: str, ask: Callable[[], None]) -> None:
        self._metric, self._ask = metric, ask
        self._metrics = EventWriter.metrics

    def __enter__(self) -> None:
        metric, ask, metrics = self._metric, self._ask, self._metrics

        def telling(self: EventWriter, step: int, values: Any) -> None:
            metrics(self, step, values)
            if step > 0 and metric in values:
                ask()

        EventWriter.metrics = telling  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        EventWriter.metrics = self._metrics  # type: ignore[method-assign]


def make_model(directory: Path, rows: Path) -> Path:
    """Random weights, and a tokenizer trained on the rows."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=512, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(rows.read_text().splitlines(), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=special[1], eos_token=special[2], pad_token=special[0])
    fast.chat_template = (
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast), hidden_size=64, intermediate_size=176, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        max_position_embeddings=512, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(directory)
    fast.save_pretrained(directory)
    return directory


def report(grid: list[Trial], asha: list[Trial], steps: int) -> int:
    """The table and the last line."""
    first, second = best(grid, True), best(asha, True)
    assert first is not None
    assert second is not None
    assert first.value is not None
    assert second.value is not None
    tokens = sum(trial.tokens for trial in grid), sum(trial.tokens for trial in asha)
    excess, share = second.value / first.value - 1, tokens[1] / tokens[0]
    losses = [trial.value for trial in best_first(grid, True) if trial.value is not None]
    print(f"\n{'':<12}{'trials':>8}{'complete':>10}{'pruned':>8}{'tokens':>12}{'best loss':>11}  by")
    for name, trials, winner, used in (("full grid", grid, first, tokens[0]), ("ASHA sweep", asha, second, tokens[1])):
        complete, pruned = (sum(trial.state == state for trial in trials) for state in ("complete", "pruned"))
        print(f"{name:<12}{len(trials):>8}{complete:>10}{pruned:>8}{used:>12,}{winner.value:>11.4f}  {dict(winner.params)}")
    middle = losses[len(losses) // 2]
    print(f"the grid's losses: {losses[0]:.4f} the best, {middle:.4f} the median, {losses[-1]:.4f} the worst; {steps} steps a trial")
    print(f"the sweep's best loss is {excess:+.2%} against the grid's (bar: +2 %), with {share:.1%} of its tokens (bar: 45 %)")
    holds = excess <= BARS["loss_excess"] and share <= BARS["token_share"]
    line = {
        "benchmark": "sweep",
        "ours": {"best_loss": second.value, "tokens": tokens[1]},
        "peer": {"best_loss": first.value, "tokens": tokens[0]},
        "ratio": share,
        "loss_excess": excess,
        "bar": BARS,
        "steps": steps,
        "holds": holds,
    }
    print(json.dumps(line))
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
