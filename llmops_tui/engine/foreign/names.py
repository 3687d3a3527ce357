"""Other trainers' names of the usual metrics, in ours; every other name stays as it is. Standard library only."""

from __future__ import annotations

_OURS = {
    "loss": "train/loss",
    "train_loss": "train/loss",
    "training_loss": "train/loss",
    "train/train_loss": "train/loss_mean",
    "lr": "train/learning_rate",
    "learning_rate": "train/learning_rate",
    "train/lr": "train/learning_rate",
    "grad_norm": "train/grad_norm",
    "gradient_norm": "train/grad_norm",
    "train/grad": "train/grad_norm",
    "epoch": "train/epoch",
    "eval_loss": "eval/loss",
    "val_loss": "eval/loss",
    "val/loss": "eval/loss",
    "valid/loss": "eval/loss",
    "validation/loss": "eval/loss",
    "validation_loss": "eval/loss",
    "valid_loss": "eval/loss",
}
# Folders that tell the part of the data: Keras and others write one log each, with the same names in them.
_FOLDERS = {"train": "train", "training": "train", "eval": "eval", "val": "eval", "valid": "eval", "validation": "eval", "test": "test"}


def our_name(name: str) -> str:
    """`loss` is `train/loss`, `val_loss` is `eval/loss`; a name that we do not know is itself."""
    return _OURS.get(name, name)


def trainer_name(name: str) -> str:
    """A key of the Transformers trainer's history: what begins with `eval_` or `test_` is of that family.

    As `transformers.integrations.rewrite_logs` has it, except that what no family claims keeps its own name. `train_loss` stands
    at the end of a history and is the mean over all steps.
    """
    if name == "train_loss":
        return "train/loss_mean"
    for family in ("eval", "test"):
        if name.startswith(f"{family}_"):
            return f"{family}/{name[len(family) + 1 :]}"
    return our_name(name)


def name_in_folder(name: str, folder: str) -> str:
    """A name without a family, from a log whose folder tells it: `loss` below `validation/` is `eval/loss`."""
    family = _FOLDERS.get(folder.lower())
    if family is None or "/" in name:
        return our_name(name)
    plain = name.removeprefix("epoch_") if name.startswith("epoch_") and len(name) > len("epoch_") else name
    return our_name(f"{family}/{plain}")


def is_part_folder(folder: str) -> bool:
    """Whether a folder of this name holds one part's log of a run, not a run of its own."""
    return folder.lower() in _FOLDERS
