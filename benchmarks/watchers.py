"""The watchers' false alarms on healthy runs, and how many steps they take to see a fault.

    python benchmarks/watchers.py [--quick]

Every rule at its default thresholds, over simulated runs of 2,000 steps and over real ones: a small network that learns to
continue the words of this repository's pages, trained here, healthy and with a fault put in. Simulated losses fall as a power
law does, with noise of one of five kinds (normal; lognormal; Student's t with 5 degrees of freedom; correlated in time; growing
with the step). Healthy runs must not alarm more often than each rule's help says; every fault must be seen in nine runs of ten.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llmops_tui.engine.watchers.panel import Facts, Panel
from llmops_tui.specs.train_watch import WatchChoice
from llmops_tui.specs.watch_rules import RULES, RuleName

STEPS = 2000
EVALUATE_EVERY = 50
FAULT_AT = 1000
VOCABULARY = 32_000
NOISES = ("normal", "lognormal", "student", "correlated", "growing")
HEAVY = {"lognormal", "student"}

Points = Iterator[tuple[str, int, float]]


@dataclass
class Run:
    """How a simulated run behaves: `noise` is its kind, `size` its standard deviation as a share of the loss."""

    noise: str
    size: float
    end: float
    seed: int
    fault: str = ""

    def points(self) -> Points:
        """Metric, step and value, as a job reports them."""
        rng = random.Random(self.seed)
        carry = 0.0
        begin = self.end + rng.uniform(1.0, 5.0)
        grad = rng.uniform(0.3, 3.0)
        wait = rng.uniform(0.01, 0.35)
        for step in range(1, STEPS + 1):
            after = step - FAULT_AT if step >= FAULT_AT else -1
            curve = self.end + (begin - self.end) * (1 + step / 40) ** -0.5
            sigma = self.size * curve * (1 + step / STEPS if self.noise == "growing" else 1)
            carry = 0.5 * carry + math.sqrt(0.75) * rng.gauss(0, 1)
            loss = max(0.01 * curve, curve + sigma * self._wild(rng, carry))
            norm = grad * math.exp(rng.gauss(0, 0.35)) * (1 + 3 / (1 + step / 20))
            data = min(1.0, max(0.0, wait + rng.gauss(0, 0.08)))
            eval_loss = (1.02 * curve + 0.05) * (1 + rng.gauss(0, 0.003))
            if after >= 0:
                loss, norm, data, eval_loss = self._with_fault(after, loss, norm, data, eval_loss, sigma)
            if self.fault == "first_loss" and step == 1:
                loss = math.log(VOCABULARY) + 3
            yield "train/loss", step, loss
            yield "train/grad_norm", step, norm
            yield "train/learning_rate", step, 1e-4
            yield "perf/data_wait_fraction", step, data
            if step % EVALUATE_EVERY == 0:
                yield "eval/loss", step, eval_loss

    def _wild(self, rng: random.Random, carry: float) -> float:
        """Noise of about one standard deviation."""
        match self.noise:
            case "correlated":
                return carry
            case "lognormal":
                return (math.exp(rng.gauss(0, 0.6)) - 1.2) / 0.8
            case "student":
                return rng.gauss(0, 1) / math.sqrt(rng.gammavariate(2.5, 2) / 5) / 1.29
            case _:
                return rng.gauss(0, 1)

    def _with_fault(
        self, after: int, loss: float, norm: float, data: float, eval_loss: float, sigma: float
    ) -> tuple[float, float, float, float]:
        match self.fault:
            case "not_finite":
                loss = math.nan
            case "spike":
                loss = loss * 5 if after == 0 else loss
            case "divergence":
                loss += min(4.0, 0.02 * after) * max(sigma, 0.1) * 5
            case "gradient":
                norm *= 10 ** min(6.0, after / 5)
            case "overfit":
                eval_loss *= 1 + 0.0003 * after
            case "data_stall":
                data = 0.8
            case "frozen":
                norm = 0.0
        return loss, norm, data, eval_loss


@dataclass
class PlateauRun(Run):
    """A loss that falls by 5 % every 500 steps, and with the fault not at all from half of the run on."""

    def points(self) -> Points:
        rng = random.Random(self.seed)
        for step in range(1, 3 * STEPS + 1):
            told = min(step, FAULT_AT) if self.fault else step
            level = 3.0 * 0.95 ** (told / 500)
            yield "train/loss", step, level * (1 + rng.gauss(0, self.size))


def firings(run: Points, rules: WatchChoice, vocabulary: int = VOCABULARY) -> list[tuple[RuleName, int]]:
    """What fires on a run, and when."""
    panel = Panel(rules, Facts(vocabulary=vocabulary, token_loss=True))
    return [(rule, firing.step) for metric, step, value in run for rule, firing in panel.feed(metric, step, step * 0.2, value)]


def _healthy(count: int, rules: WatchChoice) -> tuple[Counter[tuple[str, bool]], Counter[bool]]:
    """Runs with a false alarm by rule and whether their noise has heavy tails; and how many runs there were of both."""
    alarms: Counter[tuple[str, bool]] = Counter()
    counts: Counter[bool] = Counter()
    rng = random.Random(1)
    for number in range(count):
        noise = NOISES[number % len(NOISES)]
        heavy = noise in HEAVY
        counts[heavy] += 1
        run = Run(noise, rng.choice((0.02, 0.1, 0.2)), rng.uniform(0.3, 2.0), number)
        seen = {rule for rule, _ in firings(run.points(), rules)}
        improving = PlateauRun("normal", rng.choice((0.05, 0.1, 0.2)), 0.0, number)
        # A power law does flatten: plateaus have healthy runs of their own.
        seen = (seen - {"plateau"}) | ({rule for rule, _ in firings(improving.points(), rules)} & {"plateau"})
        alarms.update((rule, heavy) for rule in seen)
    return alarms, counts


def _faulty(count: int, rules: WatchChoice) -> dict[RuleName, list[int | None]]:
    delays: dict[RuleName, list[int | None]] = {}
    rng = random.Random(2)
    for rule in RULES:
        if rule == "hang":
            continue  # it is told by a clock: nothing to delay
        for number in range(count):
            noise, size = NOISES[number % len(NOISES)], rng.choice((0.02, 0.1, 0.2))
            kind = PlateauRun if rule == "plateau" else Run
            run = kind(noise, min(size, 0.1) if rule == "plateau" else size, rng.uniform(0.3, 2.0), 10_000 + number, rule)
            begin = 1 if rule == "first_loss" else FAULT_AT
            seen = [step for name, step in firings(run.points(), rules) if name == rule and step >= begin]
            delays.setdefault(rule, []).append(seen[0] - begin if seen else None)
    return delays


def _real(rules: WatchChoice, seeds: int) -> tuple[int, dict[str, list[int | None]]]:
    """Alarms on healthy real runs, and the delay in steps on each real fault."""
    import torch

    torch.set_num_threads(1)
    root = Path(__file__).resolve().parent.parent
    text = b"\n".join(path.read_bytes() for path in sorted((root / "docs").glob("*.md")))
    data = torch.tensor(list(text), dtype=torch.long)

    def train(seed: int, change: Callable[[int], tuple[float, int]]) -> Points:
        """Byte by byte, 16 bytes of context; `change(step)` gives the rate and how much of a batch is noise."""
        generator = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed)
        model = torch.nn.Sequential(
            torch.nn.Embedding(256, 16), torch.nn.Flatten(), torch.nn.Linear(256, 128), torch.nn.GELU(), torch.nn.Linear(128, 256)
        )
        optimizer = torch.optim.AdamW(model.parameters())
        for step in range(1, 601):
            rate, noisy = change(step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            at = torch.randint(0, len(data) - 17, (16,), generator=generator)
            rows = torch.stack([data[begin : begin + 17] for begin in at.tolist()])
            if noisy:
                rows[:noisy, 16] = torch.randint(128, 256, (noisy,), generator=generator)
            loss = torch.nn.functional.cross_entropy(model(rows[:, :16]), rows[:, 16])
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
            optimizer.step()
            yield "train/loss", step, loss.item()
            yield "train/grad_norm", step, norm.item()

    usual = 2e-3
    faults: dict[str, Callable[[int], tuple[float, int]]] = {
        "spike": lambda step: (usual, 16 if step == 400 else 0),
        "divergence": lambda step: (usual if step < 400 else 1.0, 0),
        "not_finite": lambda step: (usual if step < 400 else 1e38, 0),
    }
    healthy = sum(len(firings(train(seed, lambda _: (usual, 0)), rules, 256)) for seed in range(seeds))
    delays: dict[str, list[int | None]] = {}
    for name, change in faults.items():
        for seed in range(max(3, seeds // 4)):
            seen = [step for rule, step in firings(train(100 + seed, change), rules, 256) if rule == name and step >= 400]
            delays.setdefault(name, []).append(seen[0] - 400 if seen else None)
    return healthy, delays


def _within(seen: int, of: int, stated: float) -> bool:
    """Whether so many of so many can come of the stated rate: not beyond it by more than chance (3 in 1,000) allows."""
    chance = sum(math.comb(of, k) * stated**k * (1 - stated) ** (of - k) for k in range(seen)) if stated else float(not seen)
    return seen == 0 or chance < 0.997


def _told(delays: list[int | None]) -> tuple[str, float]:
    seen = sorted(delay for delay in delays if delay is not None)
    share = len(seen) / len(delays)
    if not seen:
        return "never seen", share
    return f"{share:5.0%} seen, delay {statistics.median(seen):.0f} steps, {seen[int(0.9 * (len(seen) - 1))]} for nine of ten", share


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="200 healthy runs instead of 2,000")
    parser.add_argument("--healthy", type=int, help="so many healthy runs")
    args = parser.parse_args()
    runs, each, seeds = (200, 10, 4) if args.quick else (2000, 40, 20)
    runs = args.healthy or runs
    rules, began = WatchChoice(), time.process_time()
    alarms, counts = _healthy(runs, rules)
    cost = (time.process_time() - began) / (runs * (4.02 * STEPS + 3 * STEPS)) * 1e6
    holds = True
    print(f"{runs} healthy simulated runs of {STEPS:,} steps, {counts[False]} with light tails and {counts[True]} with heavy ones")
    print("runs with a false alarm, of the two kinds")
    for rule, words in RULES.items():
        if rule == "hang":
            continue
        stated = {False: words.most_false, True: words.most_false if words.heavy_tails is None else words.heavy_tails}
        good = all(_within(alarms[rule, heavy], counts[heavy], stated[heavy]) for heavy in stated)
        holds = holds and good
        told = f"{alarms[rule, False]:5}{alarms[rule, True]:5}   stated at most {stated[False]:g} and {stated[True]:g} of the runs"
        print(f"  {words.title:20}{told}{'' if good else '   MORE THAN STATED'}")
    print(f"faults at step {FAULT_AT} of simulated runs")
    for rule, found in _faulty(each, rules).items():
        told, share = _told(found)
        holds = holds and share >= 0.9
        print(f"  {RULES[rule].title:20}{told}")
    healthy, real = _real(rules, seeds)
    holds = holds and healthy == 0
    print(f"real runs, 600 steps each: {healthy} false alarms in {seeds} healthy ones; faults at step 400")
    for name, found in real.items():
        told, share = _told(found)
        holds = holds and share >= 0.9
        print(f"  {name:20}{told}")
    print(f"{cost:.1f} µs of CPU a point, all rules")
    light = sum(number for (_, heavy), number in alarms.items() if not heavy)
    print(json.dumps({
        "benchmark": "watchers", "ours": light / counts[False], "peer": None, "ratio": None,
        "bar": sum(words.most_false for words in RULES.values()), "holds": holds, "healthy_runs": runs,
        "false_alarms": {f"{rule}{' (heavy tails)' if heavy else ''}": number for (rule, heavy), number in alarms.items()},
        "microseconds_a_point": round(cost, 2),
    }))  # fmt: skip
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
