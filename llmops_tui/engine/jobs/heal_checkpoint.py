"""What a prune run needs to go on with its healing after its process died: written whole and marked, as train's checkpoints are.

pruned.json            what was measured before healing, so that nothing is measured again
masks.safetensors      the weights that stay, where single ones went
weights.safetensors    what is trained, as it is now
state.pt               optimizer, schedule, generators
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypedDict

import torch
from safetensors.torch import load_file, save_file

from llmops_tui.data.checkpoints import mark_complete, prune
from llmops_tui.data.rundir import RunDir
from llmops_tui.engine.jobs.block_influence import remove_layers
from llmops_tui.engine.jobs.reporting import Reporter
from llmops_tui.engine.jobs.scoring import Score
from llmops_tui.engine.jobs.sparsity import Masks, reapply

_PRUNED, _MASKS, _WEIGHTS, _STATE = "pruned.json", "masks.safetensors", "weights.safetensors", "state.pt"
_KEPT = 1


@dataclass(frozen=True)
class Pruned:
    """The model as it was, pruned, and what of it went. `source_ended`: of the source's answers, how many came to an end."""

    before: Score
    after: Score
    source_ended: int
    facts: dict[str, Any]
    masks: Masks


class Healed(TypedDict):
    """How far healing has come."""

    step: int
    tokens: int
    seconds: float


@dataclass(frozen=True)
class HealBooks:
    """Where healing keeps its checkpoints, and the one it goes on from."""

    run: RunDir
    pruned: Pruned
    resume_from: Path | None


def save(books: HealBooks, healed: Healed, student: Any, optimizer: Any, schedule: Any, reporter: Reporter) -> None:
    """A checkpoint of this step; older ones go once it is whole. Raises OSError where the disk is full."""
    directory = books.run.checkpoints / f"checkpoint-{healed['step']}"
    directory.mkdir(parents=True, exist_ok=True)
    pruned = books.pruned
    told = {"before": asdict(pruned.before), "after": asdict(pruned.after), "source_ended": pruned.source_ended, "facts": pruned.facts}
    (directory / _PRUNED).write_text(json.dumps({**told, "healed": healed}))
    save_file({name: mask.contiguous() for name, mask in pruned.masks.items()}, directory / _MASKS)
    save_file({name: weight.detach().contiguous() for name, weight in _trained(student).items()}, directory / _WEIGHTS)
    state = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict(), "generator": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["gpu_generators"] = torch.cuda.get_rng_state_all()
    torch.save(state, directory / _STATE)
    checkpoint = mark_complete(directory, healed["step"])
    prune(books.run, _KEPT)
    path = str(directory.relative_to(books.run.path))
    reporter.events.write("checkpoint", step=healed["step"], path=path, bytes=checkpoint["bytes"])


def read_pruned(checkpoint: Path) -> Pruned:
    """What an earlier attempt measured. Raises OSError, ValueError or KeyError where the directory is none of ours."""
    told = json.loads((checkpoint / _PRUNED).read_bytes())
    return Pruned(_score(told["before"]), _score(told["after"]), told["source_ended"], told["facts"], load_file(checkpoint / _MASKS))


def prune_again(model: Any, pruned: Pruned) -> None:
    """Take the same layers or weights out of the source, in memory."""
    if removed := pruned.facts.get("layers_removed"):
        remove_layers(model, removed)
    reapply(model, {name: mask.to(model.device) for name, mask in pruned.masks.items()})


def take_up(checkpoint: Path, student: Any, optimizer: Any, schedule: Any) -> Healed:
    """Weights, optimizer, schedule and generators as they were; how far healing had come."""
    weights = load_file(checkpoint / _WEIGHTS)
    with torch.no_grad():
        for name, parameter in _trained(student).items():
            parameter.copy_(weights[name])
    state = torch.load(checkpoint / _STATE, map_location="cpu", weights_only=True)
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    torch.set_rng_state(state["generator"])
    if "gpu_generators" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["gpu_generators"])
    healed: Healed = json.loads((checkpoint / _PRUNED).read_bytes())["healed"]
    return healed


def _trained(student: Any) -> dict[str, torch.Tensor]:
    return {name: parameter for name, parameter in student.named_parameters() if parameter.requires_grad}


def _score(told: dict[str, Any]) -> Score:
    values: dict[str, Any] = {field.name: tuple(value) if isinstance(value := told[field.name], list) else value for field in fields(Score)}
    return Score(**values)
