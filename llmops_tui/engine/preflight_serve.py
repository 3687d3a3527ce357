"""What a replica needs before it starts: a whole model, a runtime that serves its format, adapters of this base, a port that is free.

`prepared`: `model`, `warnings`, and `serving_facts`, from which `serving/fitting.py` makes the plan once it is known what the box has free.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmops_tui.data.gguf_header import read_gguf_header
from llmops_tui.data.model_files import ModelFiles, recognise
from llmops_tui.data.recognition import describe
from llmops_tui.engine import disk_forecast
from llmops_tui.engine.jobs.serving_process import port_is_free
from llmops_tui.engine.preflight_checks import base_of, described, field_error, model_info, model_record, not_found
from llmops_tui.engine.serving.launchers.llamacpp import own_settings
from llmops_tui.engine.serving.replica_memory import ModelMemory, of_config, of_gguf
from llmops_tui.engine.serving.runtimes.find import Found, find
from llmops_tui.errors import NotFoundError
from llmops_tui.paths import Home
from llmops_tui.specs.answers import ModelInfo
from llmops_tui.specs.serve import ServeSpec

# Which runtimes serve which format, the best first.
SERVES: dict[str, tuple[str, ...]] = {"gguf": ("llamacpp",), "full": ("vllm", "transformers"), "adapter": ("vllm", "transformers")}


def prepare_serve(spec: ServeSpec, home: Home, places: dict[str, str], cwd: Path) -> tuple[dict[str, Any], int]:
    """Check the wish; `prepared` and the bytes it will write. `places` are the settings' runtimes. Raises at a field."""
    info = model_info(home, spec.model, cwd)
    files = recognise(Path(info["path"]))
    if files.format == "gguf" and read_gguf_header(files.weights[0]).text("general.type") == "adapter":
        raise field_error(
            "model", f"{spec.model!r} is an adapter without its base", "name the base's GGUF as model, and this one in adapters"
        )
    if not files.tokenizer and files.format != "adapter":
        raise field_error("model", f"{spec.model!r} has no tokenizer: {files.path}", "copy its base's tokenizer files beside the weights")
    base = recognise(Path(base_of(home, info, cwd)["path"])) if files.format == "adapter" else None
    runtimes = _runtimes(spec, files.format, home, places)
    _check_port(spec)
    memory = _memory(files, base)
    template = bool(spec.chat_template) or files.chat_template or (base is not None and base.chat_template)
    return {
        "model": model_record(home, spec.model, info, files),
        "serving_facts": {
            "format": files.format,
            "model_path": str(files.path.absolute()),
            "base_path": str(base.path.absolute()) if base else "",
            "name": info["name"] if info["version"] is None else f"{info['name']}@v{info['version']}",
            "own_context": files.context_length or (base.context_length if base else None),
            "memory": memory.to_json(),
            "runtimes": {name: {"python": str(one.python), "version": one.version} for name, one in runtimes.items()},
            "adapters": _adapters(spec, home, cwd, info, files),
            "chat_template": _chat_template(spec, cwd),
            "has_template": template,
        },
        "warnings": [] if template else ["the model has no chat template: only /v1/completions will be answered sensibly"],
    }, disk_forecast.RECORDS_BYTES


def _runtimes(spec: ServeSpec, model_format: str, home: Home, places: dict[str, str]) -> dict[str, Found]:
    """Those that could serve it, and are there."""
    able = SERVES[model_format]
    if spec.runtime != "auto" and spec.runtime not in able:
        what = {"gguf": "a GGUF file", "adapter": "an adapter"}.get(model_format, "a full model")
        raise field_error("runtime", f"{spec.runtime} does not serve {what}", f"use {' or '.join(able)}, or auto")
    wanted = able if spec.runtime == "auto" else (spec.runtime,)
    found = {name: one for name in wanted if (one := find(name, home, places)) is not None}
    if not found:
        raise field_error(
            "runtime", f"{' and '.join(wanted)} {'are' if len(wanted) > 1 else 'is'} not installed",
            f"llmops-tui runtimes install {wanted[-1]}",
        )  # fmt: skip
    if "llamacpp" in found:
        try:
            own_settings(spec.arguments)
        except ValueError as error:
            raise field_error("arguments", str(error), "write --name value, as in --n-batch 512") from None
    return found


def _memory(files: ModelFiles, base: ModelFiles | None) -> ModelMemory:
    if files.format == "gguf":
        return of_gguf(read_gguf_header(files.weights[0]), files.bytes)
    whole = base or files
    return of_config(whole.config, files.bytes + (base.bytes if base else 0), whole.parameters)


def _adapters(spec: ServeSpec, home: Home, cwd: Path, model: ModelInfo, files: ModelFiles) -> list[dict[str, str | int]]:
    """Each checked against the base: another base's would fail at the server's start, or answer nonsense."""
    found: list[dict[str, str | int]] = []
    for number, choice in enumerate(spec.adapters):
        field = f"adapters.{number}.model"
        info = model_info(home, choice.model, cwd, field)
        adapter = recognise(Path(info["path"]))
        if files.format == "gguf":
            _check_gguf_adapter(field, choice.model, adapter, files)
        else:
            _check_peft_adapter(field, choice.model, adapter, model, files, home, cwd)
        found.append({"name": choice.name, "path": str(adapter.path.absolute()), "rank": _rank(adapter)})
    if found and files.format == "adapter":
        raise field_error("adapters", "the model is an adapter itself", "name its base as model, and every adapter in adapters")
    return found


def _rank(adapter: ModelFiles) -> int:
    """Of a PEFT directory; 0 where it is not known. Single weights may have ranks of their own."""
    own = adapter.config.get("rank_pattern")
    ranks = [adapter.config.get("r"), *(own.values() if isinstance(own, dict) else ())]
    return max((rank for rank in ranks if isinstance(rank, int)), default=0)


def _check_gguf_adapter(field: str, ref: str, adapter: ModelFiles, files: ModelFiles) -> None:
    if adapter.format != "gguf":
        raise field_error(field, f"{ref!r} is {_described(adapter)}, and llama.cpp takes adapters as GGUF-LoRA", "convert it first")
    header, base = read_gguf_header(adapter.weights[0]), read_gguf_header(files.weights[0])
    if header.text("general.type") != "adapter":
        raise field_error(field, f"{ref!r} is a whole model, not an adapter", "name a GGUF-LoRA file")
    if (one := header.text("general.architecture")) != (other := base.text("general.architecture")):
        raise field_error(field, f"{ref!r} was made for the architecture {one}, and the model is {other}", "name an adapter of this base")
    for name, shape in header.shapes.items():
        # A weight of `in × out` has `in × rank` and `rank × out` beside it.
        weight, _, part = name.rpartition(".lora_")
        whole, place = base.shapes.get(weight, ()), 0 if part == "a" else 1
        if part and shape[place : place + 1] != whole[place : place + 1]:
            raise field_error(field, f"{ref!r} was made for another base: its {weight} does not fit", "name an adapter of this base")


def _check_peft_adapter(field: str, ref: str, adapter: ModelFiles, model: ModelInfo, files: ModelFiles, home: Home, cwd: Path) -> None:
    if adapter.format != "adapter":
        raise field_error(field, f"{ref!r} is {_described(adapter)}, not an adapter", "name an adapter's directory or its registered name")
    try:
        own = base_of(home, describe(adapter), cwd, field)
    except NotFoundError:
        own = None  # its base has moved: the shapes below decide
    if own is not None and _same(own["path"], model["path"]):
        return
    wanted = own["architecture"] if own is not None else ""
    hidden = recognise(Path(own["path"])).config.get("hidden_size") if own is not None else None
    if wanted != files.architecture or hidden != files.config.get("hidden_size"):
        raise field_error(
            field, f"{ref!r} was trained on {adapter.base!r}, another base than {model['path']}", "name an adapter of this base"
        )


def _same(one: str, other: str) -> bool:
    return Path(one).resolve() == Path(other).resolve()


def _described(files: ModelFiles) -> str:
    return described(describe(files))


def _chat_template(spec: ServeSpec, cwd: Path) -> str:
    if not spec.chat_template:
        return ""
    path = (cwd / Path(spec.chat_template).expanduser()).absolute()
    if not path.is_file():
        raise not_found("chat_template", f"{path}: no such file", "name a Jinja file")
    return str(path)


def _check_port(spec: ServeSpec) -> None:
    try:
        free = port_is_free(spec.host, spec.port if isinstance(spec.port, int) else 0)
    except OSError as error:
        raise field_error("host", f"{spec.host}: {error.strerror or error}", "name an address of this box, as 127.0.0.1") from None
    if not free:
        raise field_error("port", f"{spec.port} is in use on {spec.host}", "choose another, or port=auto")
