"""What a model knew is kept: rehearsal, the probe and its interval, early stopping, the best checkpoint, the line that sums it up."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from llmops_tui.data.checkpoints import complete_checkpoints
from llmops_tui.data.choices import choices_of
from llmops_tui.data.rundir import RunDir
from llmops_tui.data.split import drawn_rows
from llmops_tui.engine.jobs.choice_probe import choose, compare_choices, encode_choices, mcnemar, wilson
from llmops_tui.engine.jobs.keeping import BestSoFar, see
from llmops_tui.engine.jobs.probe import ProbeLosses, compare, kept_words
from llmops_tui.errors import LlmopsError
from llmops_tui.specs.parse import parse_spec
from llmops_tui.specs.train_keep import EarlyStopChoice
from tests.engine.job_in_process import run_in_process
from tests.engine.tiny_model import make_model, make_tokenizer, save_model, write_rows


def course(losses: list[float], **rule: Any) -> tuple[list[bool], list[bool], BestSoFar | None]:
    """What each evaluation was taken for: an improvement, the end."""
    best: BestSoFar | None = None
    improved, enough = [], []
    for step, loss in enumerate(losses, 1):
        seen = see(best, step, loss, EarlyStopChoice(**rule))
        best = seen.best
        improved.append(seen.improved)
        enough.append(seen.enough)
    return improved, enough, best


def test_patience_counts_evaluations_since_the_loss_was_better_by_the_least_difference() -> None:
    improved, enough, best = course([3.0, 2.0, 1.99, 1.98, 1.97], patience=3, min_delta=0.1)
    assert improved == [True] * 5  # each is the best so far, and yet hardly better
    assert enough == [False, False, False, False, True]
    assert best is not None
    assert (best["step"], best["loss"], best["mark"]) == (5, 1.97, 2.0)
    assert course([3.0, 2.0, 2.5, 1.0, 1.5, 1.5], patience=2)[1] == [False] * 5 + [True]
    assert not any(course([1.0, 2.0, 3.0, 4.0])[1])  # without patience it never ends early


def test_a_loss_that_is_not_a_number_is_never_the_best() -> None:
    improved, enough, best = course([math.nan, 2.0, math.nan, math.nan], patience=2)
    assert improved == [True, True, False, False]
    assert enough == [False, False, False, True]
    assert best is not None
    assert best["step"] == 2


def test_rows_are_drawn_each_once_before_any_comes_again_and_by_the_seed_alone() -> None:
    drawn = drawn_rows(5, 12, seed=1)
    assert sorted(drawn[:5]) == sorted(drawn[5:10]) == list(range(5))
    assert drawn[:5] != drawn[5:10]
    assert drawn == drawn_rows(5, 12, seed=1) != drawn_rows(5, 12, seed=2)
    assert drawn_rows(0, 3, seed=1) == []


def test_what_was_lost_is_told_apart_from_chance_by_pairs() -> None:
    counts = [10.0] * 40
    hard = [float(5 * (row % 9)) for row in range(40)]  # rows differ far more than the change

    def after(change: float, spread: float) -> str:
        losses = [loss + 10 * (change + spread * (-1) ** row) for row, loss in enumerate(hard)]
        return compare(ProbeLosses(losses=hard, counts=counts), ProbeLosses(losses=losses, counts=counts)).words

    assert after(0.1, 0.05).startswith("lost 0.1000 nats a token on 40 probe rows (95 % interval +0.0")
    assert after(-0.1, 0.05).startswith("lost nothing: better by 0.1000")
    assert "cannot" not in after(0.001, 0.05)
    assert after(0.001, 0.05).startswith("lost nothing that can be told from chance: worse by 0.0010")
    assert kept_words(2.0, 1.5, None) == "gained 0.5000 on the held-out loss; what was lost was not measured (keep.probe_path)"
    assert kept_words(1.5, 2.0, None).startswith("gained nothing: worse by 0.5000")
    assert kept_words(None, None, None).startswith("gained: not measured")
    assert kept_words(None, None, None, (0.25, 0.75)).startswith("gained 0.5000 of held-out reward;")


def choice_rows(count: int) -> list[dict[str, Any]]:
    """Questions with three options each."""
    return [{"question": f"What is {n} + {n}?", "choices": [str(2 * n), f"it is {n}", "nothing"], "answer": n % 3} for n in range(count)]


def test_an_option_is_chosen_by_its_likelihood_a_character_after_the_question_alone() -> None:
    torch = pytest.importorskip("torch")
    model, tokenizer = make_model().eval(), make_tokenizer()
    questions = [choices for row in choice_rows(6) if (choices := choices_of(row))]
    encoded = encode_choices(tokenizer, questions, 200)
    chosen = choose(model, encoded, pad_id=0, token_budget=64, progress=lambda done, total: None)

    def likelihood(context: str, option: str) -> float:
        """As lm-evaluation-harness: the log-likelihood of " option" after the context."""
        ids = tokenizer(f"{context} {option}", add_special_tokens=False)["input_ids"]
        begin = len(tokenizer(context, add_special_tokens=False)["input_ids"])
        with torch.no_grad():
            logs = torch.log_softmax(model(torch.tensor([ids])).logits[0], -1)
        return sum(float(logs[at - 1, ids[at]]) for at in range(begin, len(ids)))

    for found, right in zip(questions, chosen, strict=True):
        context = f"Question: {found.question}\nAnswer:"
        scores = [likelihood(context, option) / len(option) for option in found.options]
        assert right == (max(range(3), key=lambda at: scores[at]) == found.right)
    cut = encode_choices(tokenizer, questions[:1], 12)[0].options[1]
    assert (cut.cut, tokenizer.decode(cut.input_ids)) == (True, "wer: it is 0")  # the question's beginning goes, never the option
    assert cut.labelled == len(" it is 0")


def test_accuracy_lost_is_told_from_chance_by_the_rows_that_changed() -> None:
    options = [4] * 100
    before = [1] * 60 + [0] * 40
    lost = compare_choices(before, [0] * 20 + [1] * 40 + [0] * 40, options)
    assert (lost.lost, lost.won, lost.before, lost.after, lost.chance) == (20, 0, 0.6, 0.4, 0.25)
    assert lost.p == pytest.approx(2 * 0.5**20)
    assert lost.words.startswith("lost 20.0 points of accuracy on 100 multiple-choice rows, 60.0 % to 40.0 % (95 % interval -2")
    same = compare_choices(before, [0] + [1] * 60 + [0] * 39, options)
    assert (same.difference, same.p) == (0.0, 1.0)
    assert same.words.startswith("no change that can be told from chance: 0.0 points more of accuracy")
    assert "no better than the chance" not in same.words
    guessing = compare_choices([1, 0, 0, 0] * 25, [1, 0, 0, 0] * 25, options)
    assert guessing.at_chance
    assert "no better than the chance of 25.0 % before" in guessing.words
    assert mcnemar(3, 10) == pytest.approx(0.0922851, abs=1e-6)  # a fair coin, 13 throws
    assert wilson(0.6, 100) == (pytest.approx(0.5020, abs=1e-4), pytest.approx(0.6906, abs=1e-4))


def test_a_probe_whose_options_hold_no_right_one_is_refused_with_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(tmp_path / "model")
    write_rows(tmp_path / "rows.jsonl")
    rows = choice_rows(4)
    rows[2]["answer"] = "neither"
    (tmp_path / "choices.jsonl").write_text("".join(json.dumps({**row, "options": "a\nb", "choices": None}) + "\n" for row in rows))
    with pytest.raises(LlmopsError) as caught:
        run_in_process(
            monkeypatch,
            tmp_path,
            {"kind": "train", "model": "model", "dataset": {"path": "rows.jsonl"}, "keep": {"probe_path": "choices.jsonl"}},
        )
    assert "row 3: `answer` 'neither' is none of the 2 options" in str(caught.value)
    assert str(caught.value).startswith("keep.probe_path: ")


def test_a_run_that_forgets_ends_early_takes_its_best_moment_and_says_what_was_gained_and_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    save_model(tmp_path / "model")
    write_rows(tmp_path / "rows.jsonl")
    general = [{"text": f"A general truth, number {number}: all runs are kept."} for number in range(12)]
    (tmp_path / "general.jsonl").write_text("".join(json.dumps(row) + "\n" for row in general))
    (tmp_path / "choices.jsonl").write_text("".join(json.dumps(row) + "\n" for row in choice_rows(12)))
    ended = run_in_process(
        monkeypatch,
        tmp_path,
        {
            "kind": "train",
            "model": "model",
            "adaptation": "full",
            "dataset": {"path": "rows.jsonl", "eval_fraction": 0.25},
            "optim": {"learning_rate": 0.2, "schedule": "constant"},  # it overshoots at once
            "max_steps": 40,
            "max_length": 120,
            "micro_batch": 2,
            "evaluate_every": 2,
            "keep_checkpoints": 1,
            "sample_tokens": 1,
            "keep": {
                "rehearsal": [{"path": "general.jsonl", "weight": 0.5}],
                "probe_path": "choices.jsonl",
                "probe_limit": 8,
                "best": True,
                "early_stop": {"patience": 3},
            },
        },
    )
    assert ended.end["status"] == "succeeded", ended.end["error"]
    summary = ended.summary
    points = [event for event in ended.events if event["type"] == "metric"]
    losses = {event["step"]: event["values"]["eval/loss"] for event in points if "eval/loss" in event["values"] and event["step"]}
    assert len(losses) == sum("eval/loss" in event["values"] and event["step"] > 0 for event in points) - 1  # once a step; `after` again
    best = min(losses, key=lambda step: losses[step])
    assert summary["steps"] == best + 6 < 40  # three evaluations without a better one
    assert summary["step_taken"] == best
    assert summary["eval_loss_after"] == pytest.approx(losses[best], abs=1e-6)
    assert [checkpoint["step"] for checkpoint in complete_checkpoints(RunDir(ended.run))] == [best, best + 6]
    assert (summary["rows"], summary["rows_rehearsed"]) == (27, 9)
    assert summary["probe"]["rows"] == 8
    assert summary["probe"]["interval"][0] <= summary["probe"]["difference"] <= summary["probe"]["interval"][1]
    assert [event["step"] for event in points if "eval/probe_loss" in event["values"]] == [0, best + 6]
    chosen = [event["values"]["eval/probe_accuracy"] for event in points if "eval/probe_accuracy" in event["values"]]
    found = summary["probe"]["choices"]
    assert [found["accuracy_before"], found["accuracy_after"]] == chosen
    assert (found["rows"], found["chance"], found["at_chance"]) == (8, pytest.approx(1 / 3), True)  # it never learnt to speak
    messages = [event["message"] for event in ended.events if event["type"] == "log"]
    assert summary["kept"] in messages
    assert "of accuracy on 8 multiple-choice rows" in summary["kept"]
    assert any(message.startswith("accuracy ") and "no better than the chance of 33.3 %" in message for message in messages)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"keep": {"best": True}}, "keep.best: the best is found by evaluations in between; set evaluate_every"),
        ({"keep": {"early_stop": {"patience": 2}}}, "set evaluate_every"),
        ({"method": "dpo", "keep": {"rehearsal": [{"path": "g.jsonl"}]}}, "keep.rehearsal: dpo learns from rows of another kind"),
        ({"method": "reward", "keep": {"probe_path": "g.jsonl"}}, "keep.probe_path: a reward model"),
        ({"keep": {"rehearsal": [{"path": "g.jsonl", "weight": 0}]}}, "weight"),
        ({"keep": {"rehearsal": [{"weight": 1}]}}, "path"),
    ],
)
def test_what_cannot_be_kept_is_refused_in_one_line(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(LlmopsError) as caught:
        parse_spec({"kind": "train", "model": "m", "dataset": {"path": "rows.jsonl"}, **fields})
    assert said in f"{caught.value} {caught.value.fields}"
    assert "\n" not in str(caught.value)


def test_other_rows_that_are_missing_are_refused_at_their_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(tmp_path / "model")
    write_rows(tmp_path / "rows.jsonl")
    wish = {"kind": "train", "model": "model", "dataset": {"path": "rows.jsonl"}}
    for keep, field in (
        ({"probe_path": "gone.jsonl"}, "keep.probe_path"),
        ({"rehearsal": [{"path": "rows.jsonl"}, {"path": "gone.jsonl"}]}, "keep.rehearsal.1.path"),
    ):
        with pytest.raises(LlmopsError) as caught:
            run_in_process(monkeypatch, tmp_path, {**wish, "keep": keep})
        assert caught.value.fields[0]["field"] == field
