"""Whether training can go on from an adapter: its kind, and that it belongs to its base. Checked from the files alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from llmops_tui.data.model_files import ModelFiles, recognise
from llmops_tui.data.models import model_digest
from llmops_tui.engine.preflight_checks import base_of, described, field_error, matrices
from llmops_tui.engine.preflight_rows import run_record
from llmops_tui.errors import UsageError
from llmops_tui.paths import Home
from llmops_tui.specs.answers import ModelInfo
from llmops_tui.specs.train import TrainSpec
from llmops_tui.specs.train_continued import Continued

_PREFIX = "base_model.model."
_MERGE = "merge it first (llmops-tui run merge), and train the merged model"


class Start(NamedTuple):
    """What the run begins with. `files`: the base's, with the tokenizer that the adapter brings; `warnings`: what is odd about it."""

    continued: Continued
    base: ModelInfo
    files: ModelFiles
    tokenizer_path: Path
    warnings: list[str]


def start_from_adapter(spec: TrainSpec, home: Home, cwd: Path, info: ModelInfo) -> Start:
    """Raises UsageError or NotFoundError at `model` or `adaptation`: of another kind, of another base, or its base gone."""
    if spec.method == "reward":
        raise field_error("model", f"{spec.model!r} is an adapter that speaks, and a reward model gets another head", _MERGE)
    adapter = recognise(Path(info["path"]))
    base = base_of(home, info, cwd)
    if base["format"] != "full":
        raise field_error("model", f"its base {base['path']} is {described(base)}", "training needs the base as safetensors")
    base_files = recognise(Path(base["path"]))
    continued = _continued(spec, adapter)
    _check_shapes(spec, adapter, base_files)
    made_by = run_record(home, info) or {}
    learnt_on = (made_by.get("prepared") or {}).get("base") or (made_by.get("prepared") or {}).get("model") or {}
    if (known := learnt_on.get("sha256")) and learnt_on.get("path") == base["path"] and known != model_digest(home, Path(base["path"])):
        raise field_error(
            "model", f"the base {base['path']} has changed since {made_by.get('id')} made this adapter", "bring the base back"
        )
    files = replace(base_files, tokenizer=True, chat_template=adapter.chat_template) if adapter.tokenizer else base_files
    speaks = adapter.path if adapter.tokenizer else base_files.path
    return Start(continued, base, files, speaks, _warnings(spec, continued, made_by))


def described_adapter(adapter: ModelFiles, wanted: str = "lora") -> Continued:
    """The adapter's own settings, on a base as `wanted` has it. Raises UsageError where its configuration is none of LoRA's."""
    config = adapter.config
    if config.get("peft_type") != "LORA" or not isinstance(config.get("r"), int):
        raise field_error("model", f"{adapter.path} is {config.get('peft_type') or 'no LoRA'}, and training goes on from LoRA", _MERGE)
    kind = "dora" if config.get("use_dora") else "rslora" if config.get("use_rslora") else "lora"
    targets = config.get("target_modules")
    return Continued(
        path=str(adapter.path),
        adaptation="qlora" if wanted == "qlora" and kind == "lora" else kind,
        r=config["r"],
        alpha=int(config.get("lora_alpha") or config["r"]),
        dropout=float(config.get("lora_dropout") or 0.0),
        target_modules=sorted(targets) if isinstance(targets, list) else str(targets or "all-linear"),
    )


def _continued(spec: TrainSpec, adapter: ModelFiles) -> Continued:
    if spec.adaptation == "full":
        raise field_error("adaptation", f"{spec.model!r} is an adapter, and full trains every weight of a whole model", _MERGE)
    found = described_adapter(adapter, spec.adaptation)
    # lora is what a spec says that says nothing.
    if spec.adaptation not in ("lora", found["adaptation"]):
        raise field_error(
            "adaptation",
            f"{spec.model!r} is a {found['adaptation']} adapter, which cannot become {spec.adaptation}",
            "leave adaptation out",
        )
    return found


def _check_digest(home: Home, base: ModelInfo, made_by: dict[str, Any]) -> None:
    """Where a run of this box made the adapter, its base must be what it was then."""
    prepared = made_by.get("prepared") or {}
    began = prepared.get("base") or prepared.get("model") or {}
    path, digest = (began.get("base_path"), began.get("base_sha256")) if "base_path" in began else (began.get("path"), began.get("sha256"))
    if path == base["path"] and digest and digest != model_digest(home, Path(base["path"])):
        raise field_error(
            "model", f"its base {path} has changed since {made_by.get('id')} made this adapter", "bring the base back as it was"
        )


def _check_shapes(spec: TrainSpec, adapter: ModelFiles, base: ModelFiles) -> None:
    """Every pair of thin matrices must fit beside the weight it is named after."""
    if base.config.get("quantization_config"):
        return  # packed weights: their shapes are not the matrices'
    known, found = matrices(base), matrices(adapter)
    pairs = {name.removesuffix(".lora_A.weight"): shape for name, shape in found.items() if name.endswith(".lora_A.weight")}
    fitting = 0
    for module, (_, inputs) in pairs.items():
        weight = known.get(f"{module.removeprefix(_PREFIX)}.weight")
        outputs = found.get(f"{module}.lora_B.weight", (0, 0))[0]
        if weight is None:
            continue  # experts in one tensor, tied weights: not told apart here
        if weight != (outputs, inputs):
            wanted = f"{outputs} × {inputs}"
            raise _other_base(spec, base, f"{module.removeprefix(_PREFIX)} is {weight[0]} × {weight[1]} there, the adapter's {wanted}")
        fitting += 1
    if not fitting:
        raise _other_base(spec, base, "it has none of the modules the adapter changes")


def _other_base(spec: TrainSpec, base: ModelFiles, reason: str) -> UsageError:
    return field_error(
        "model", f"{spec.model!r} is an adapter of another base than {base.path}: {reason}", "correct base_model_name_or_path, or the base"
    )


def _warnings(spec: TrainSpec, continued: Continued, made_by: dict[str, Any]) -> list[str]:
    found = []
    told, own = spec.lora, {"r": continued["r"], "alpha": continued["alpha"], "dropout": continued["dropout"]}
    usual = type(told)()
    for key, value in own.items():
        if getattr(told, key) not in (value, getattr(usual, key)):
            found.append(f"lora.{key} is the adapter's own, {value}: {getattr(told, key)} is not used")
    if ((made_by.get("spec") or {}).get("adaptation")) == "qlora" and spec.adaptation != "qlora":
        found.append("the adapter was trained on a 4-bit base and goes on on the whole one: adaptation=qlora goes on as it was")
    return found
