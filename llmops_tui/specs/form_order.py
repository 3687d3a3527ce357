"""Which fields of a kind's form come first, by what is asked of whoever fills it in. Standard library only."""

from __future__ import annotations

from collections.abc import Callable

# In this order, before the other common fields. A dataset follows its model: one is chosen right after the other.
_FIRST: dict[str, tuple[str, ...]] = {
    "train": ("method", "model", "dataset.path", "adaptation", "optim.learning_rate"),
    "sweep": (
        "base.method", "base.model", "base.dataset.path", "space", "budget.trials", "base.evaluate_every", "pruner", "sampler", "metric",
        "base.adaptation",
    ),
    "crossval": ("base.method", "base.model", "base.dataset.path", "folds", "base.dataset.group_by", "base.adaptation", "metric"),
    "prune": ("method", "model", "dataset.path", "sparsity", "layers", "heal.steps"),
    "quantize": ("model", "types", "measure.dataset"),
    "merge": ("adapter", "output"),
    "loadtest": ("endpoint", "concurrency", "rate", "requests", "prompts.dataset", "prompts.answer_tokens"),
}  # fmt: skip
# A method's own fields stand beside the first ones.
_OF_METHOD: dict[str, tuple[str, ...]] = {
    "dpo": ("preference.beta",),
    "kto": ("preference.beta",),
    "orpo": ("preference.beta",),
    "reward": ("reward.center",),
    "grpo": ("grpo.rewards", "grpo.group", "grpo.completion_tokens"),
    "distill": ("distill.teacher", "distill.weight"),
}
# What a parent's trials have of their own is not asked twice.
_NOT_SHOWN: dict[str, frozenset[str]] = {
    "sweep": frozenset({"resources.gpus", "base.name"}), "crossval": frozenset({"resources.gpus", "base.name"}),
}  # fmt: skip


def first_fields(kind: str, words: Callable[[str], str]) -> list[str]:
    """The first fields in their order; `words(key)` is what stands in a field, "" for none and for a field the kind has not."""
    found = list(_FIRST.get(kind, ()))
    base = "base." if kind in ("sweep", "crossval") else ""
    if kind == "train" or base:
        place = found.index(f"{base}adaptation") + 1
        found[place:place] = [base + key for key in _OF_METHOD.get(words(f"{base}method"), ())]
        if not words(f"{base}model"):
            found.insert(place, f"{base}scratch.preset")  # the other way to begin
    return found


def needed_of_method(kind: str, words: Callable[[str], str]) -> list[str]:
    """What the method chosen cannot do without."""
    base = "base." if kind in ("sweep", "crossval") else ""
    return [f"{base}distill.teacher"] if words(f"{base}method") == "distill" else []


def shown_first(kind: str, key: str, words: Callable[[str], str]) -> bool:
    """Whether a common field has a say here."""
    base = "base." if kind in ("sweep", "crossval") else ""
    if key == f"{base}lora.r" and (words(f"{base}adaptation") == "full" or words(f"{base}scratch.preset")):
        return False
    return key not in _NOT_SHOWN.get(kind, ())
