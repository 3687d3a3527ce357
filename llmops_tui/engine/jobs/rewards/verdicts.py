"""The rewards of a run, each with its name, and what they need to judge an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_tui.data.final_answer import same_number, same_text
from llmops_tui.data.formats import Conversation
from llmops_tui.data.rows import Row
from llmops_tui.engine.jobs.rewards.user_function import Reward, call_function, load_function
from llmops_tui.errors import UsageError
from llmops_tui.specs.train_grpo import function_place


@dataclass(frozen=True)
class Question:
    """A prompt, the answer it has in the file, and where it stands there. `raw` only where a reward asks for the row."""

    prompt: Conversation
    answer: str
    number: int
    raw: Row | None = None


@dataclass(frozen=True)
class Verdict:
    """One reward. `name` is short, for metrics; `where` is how errors call it."""

    name: str
    where: str
    function: Reward
    asks: tuple[str, ...]

    def of(self, question: Question, completion: str, when: str) -> float:
        """What a completion is worth. Raises UsageError naming `when` and the row where the user's function fails."""
        given: dict[str, object] = {
            "completion": completion, "answer": question.answer, "prompt": question.prompt, "row": question.raw,
        }  # fmt: skip
        try:
            return call_function(self.where, self.function, {name: given[name] for name in self.asks})
        except UsageError as error:
            raise UsageError(f"{when}, row {question.number}: {error.message}", error.next_step) from error


def load_verdicts(rewards: Sequence[str], prepared: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """The rewards of a spec; `prepared` says where the user's own lie, as preflight found them. Raises what `load_function` raises."""
    found_by_preflight = {entry["reward"]: entry for entry in prepared}
    verdicts: list[Verdict] = []
    for reward in rewards:
        place = function_place(reward)
        if place is None:
            compare = same_text if reward == "exact" else same_number
            verdicts.append(Verdict(reward, reward, _matching(compare), ("completion", "answer")))
            continue
        entry = found_by_preflight.get(reward)
        path = Path(entry["path"] if entry else place.path)
        function, asks = load_function(path, place.function, entry["sha256"] if entry else "")
        verdicts.append(Verdict(place.function, f"{path.name}:{place.function}", function, asks))
    return verdicts


def _matching(compare: Any) -> Reward:
    def reward(completion: str, answer: str) -> float:
        return float(compare(completion, answer))

    return reward
