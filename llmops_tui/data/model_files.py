"""What a model on disk is: recognised from its files' names and headers, without loading a weight.

A full model is `config.json` with safetensors (each shard of the index present and whole), an adapter is
`adapter_config.json` with `adapter_model.safetensors`, a GGUF file (or its shards) is a model by itself.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmops_tui.data.gguf_header import is_gguf, read_gguf_header
from llmops_tui.data.safetensors_header import SafetensorsHeader, read_safetensors_header

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
# The files that decide what a model answers, beside its weights: they make its digest.
_IDENTITY = (
    "config.json", "generation_config.json", "adapter_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model", "tekken.json",
    "chat_template.jinja", "chat_template.json",
)  # fmt: skip
_INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")
LICENCE_FILES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "NOTICE")
_LICENCES = (("Apache License", "apache-2.0"), ("MIT License", "mit"), ("LLAMA", "llama"), ("Gemma Terms", "gemma"))


# What the architecture of an adapter says where it scores answers; a full model's own ends in ForSequenceClassification.
REWARD_MODEL = "reward model"


@dataclass
class ModelFiles:
    """A recognised model. `format` is empty when the path is none; `missing` says why it cannot be loaded."""

    path: Path
    format: str = ""
    bytes: int = 0
    architecture: str = ""
    parameters: int | None = None
    dtype: str = ""
    context_length: int | None = None
    licence: str = ""
    base: str = ""
    chat_template: bool = False
    tokenizer: bool = False
    config: dict[str, Any] = field(default_factory=dict)
    weights: list[Path] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return bool(self.format) and not self.missing

    @property
    def problems(self) -> list[str]:
        """What a user should know before choosing it."""
        return [*self.missing, *([] if self.tokenizer or self.format != "full" else ["no tokenizer files"])]

    def identity(self) -> list[Path]:
        """The files whose content makes the model's digest: weights, configuration and tokenizer, never a README."""
        if self.path.is_file():
            return self.weights
        return [*self.weights, *(path for name in _IDENTITY if (path := self.path / name).is_file())]


def recognise(path: Path) -> ModelFiles:
    """Look at a directory or a GGUF file; what is wrong stands in `missing`, nothing is raised for it."""
    found = ModelFiles(path)
    try:
        if path.is_file():
            _recognise_file(found)
        elif path.is_dir():
            _recognise_directory(found)
        else:
            found.missing.append("a link whose target is gone" if path.is_symlink() else "no such file or directory")
    except OSError as error:
        found.missing.append(f"cannot be read: {error.strerror} ({error.filename or path})")
    return found


def _recognise_file(found: ModelFiles) -> None:
    if is_gguf(found.path):
        _gguf(found, found.path)
    elif found.path.suffix == ".safetensors":
        found.missing.append("one file of a model: name its directory")
    else:
        found.missing.append("not a model: neither a directory nor a GGUF file")


def _recognise_directory(found: ModelFiles) -> None:
    names = {entry.name for entry in found.path.iterdir()}
    ggufs = sorted(name for name in names if name.lower().endswith(".gguf") and not _later_shard(name))
    if "adapter_config.json" in names:
        _adapter(found, names)
    elif "config.json" in names and (not ggufs or any(name.endswith(".safetensors") for name in names)):
        _full(found, names)
    elif len(ggufs) == 1:
        found.path = found.path / ggufs[0]
        _gguf(found, found.path)
    elif ggufs:
        found.missing.append(f"holds {len(ggufs)} GGUF files: name one of them, for example {ggufs[0]}")
    else:
        found.missing.append("not a model directory: neither config.json nor adapter_config.json nor a GGUF file is in it")


def _full(found: ModelFiles, names: set[str]) -> None:
    found.format = "full"
    found.config = _json(found, "config.json")
    text = found.config.get("text_config") if isinstance(found.config.get("text_config"), dict) else {}
    architectures = found.config.get("architectures")
    found.architecture = str(architectures[0] if isinstance(architectures, list) and architectures else found.config.get("model_type", ""))
    found.context_length = _positive(found.config.get("max_position_embeddings") or (text or {}).get("max_position_embeddings"))
    found.tokenizer = any(name in names for name in TOKENIZER_FILES)
    found.chat_template = _has_chat_template(found.path, names)
    found.licence = licence_of(found.path)
    _safetensors(found, _shards(found, names))
    if not found.weights and not found.missing:
        pickled = sorted(name for name in names if name.endswith((".bin", ".pt", ".pth")))
        found.missing.append(
            f"holds only pickled weights ({pickled[0]}), which can run code when loaded: convert them to safetensors"
            if pickled
            else "holds no weights: model.safetensors is missing"
        )
    quantization = found.config.get("quantization_config")
    if isinstance(quantization, dict):
        found.dtype = str(quantization.get("quant_method", "quantized"))
        found.parameters = None  # packed integers: the shapes do not count parameters


def _shards(found: ModelFiles, names: set[str]) -> list[str]:
    if _INDEX in names:
        weight_map = _json(found, _INDEX).get("weight_map")
        if isinstance(weight_map, dict) and weight_map:
            return sorted({str(name) for name in weight_map.values()})
        found.missing.append(f"{_INDEX} names no shards")
        return []
    if "model.safetensors" in names:
        return ["model.safetensors"]
    return sorted(name for name in names if name.endswith(".safetensors") and not name.startswith("adapter"))


def _adapter(found: ModelFiles, names: set[str]) -> None:
    found.format = "adapter"
    found.config = _json(found, "adapter_config.json")
    found.base = str(found.config.get("base_model_name_or_path") or "")
    found.architecture = (
        f"{found.config.get('peft_type', 'adapter')} r={found.config.get('r', '?')} alpha={found.config.get('lora_alpha', '?')}"
    )
    if found.config.get("task_type") == "SEQ_CLS":
        found.architecture += f" {REWARD_MODEL}"
    found.tokenizer = any(name in names for name in TOKENIZER_FILES)
    found.chat_template = _has_chat_template(found.path, names)
    found.licence = licence_of(found.path)
    _safetensors(found, ["adapter_model.safetensors"])


def _safetensors(found: ModelFiles, shards: list[str]) -> None:
    headers: list[SafetensorsHeader] = []
    for name in shards:
        path = found.path / name
        try:
            size = path.stat().st_size
            headers.append(read_safetensors_header(path))
            if size < headers[-1].expected_bytes:
                found.missing.append(f"{name} is cut off: {size:,} of {headers[-1].expected_bytes:,} bytes")
        except FileNotFoundError:
            found.missing.append(f"{name} is {'a link whose target is gone' if path.is_symlink() else 'missing'}")
            continue
        except ValueError as error:
            found.missing.append(f"{name} {error}")
            continue
        found.bytes += size
        found.weights.append(path)
    elements: dict[str, int] = {}
    for header in headers:
        for kind, count in header.elements.items():
            elements[kind] = elements.get(kind, 0) + count
    if elements:
        found.parameters = sum(elements.values())
        found.dtype = max(elements, key=lambda kind: elements[kind])


def _gguf(found: ModelFiles, first: Path) -> None:
    found.format = "gguf"
    found.weights = [first]
    if shard := _SHARD.fullmatch(first.name):
        count = int(shard[3])
        found.weights = [first.with_name(f"{shard[1]}-{number:05d}-of-{count:05d}.gguf") for number in range(1, count + 1)]
    parameters = 0
    for number, path in enumerate(found.weights):
        try:
            size = path.stat().st_size
            header = read_gguf_header(path)
        except FileNotFoundError:
            found.missing.append(f"{path.name} is missing")
            continue
        except ValueError as error:
            found.missing.append(f"{path.name} {error}")
            continue
        if size < header.expected_bytes:
            found.missing.append(f"{path.name} is cut off: {size:,} of {header.expected_bytes:,} bytes")
        found.bytes += size
        parameters += header.parameters
        if number == 0:
            found.architecture = header.text("general.architecture")
            found.context_length = header.number(f"{found.architecture}.context_length")
            found.chat_template = bool(header.text("tokenizer.chat_template"))
            found.licence = header.text("general.license")
            found.dtype = header.quantization
            found.tokenizer = bool(header.text("tokenizer.ggml.model"))
    found.parameters = parameters or None


def licence_of(directory: Path) -> str:
    """The licence a model card or licence file names; empty where neither does."""
    card = directory / "README.md"
    if card.is_file():
        head = card.read_bytes()[:4096].decode(errors="replace")
        if head.startswith("---") and (match := re.search(r"^licen[sc]e:\s*[\"']?([\w.+-]+)", head, re.MULTILINE)):
            return match[1].lower()
    for name in LICENCE_FILES:
        path = directory / name
        if path.is_file():
            with open(path, "rb") as file:
                head = file.read(2048).decode(errors="replace")
            return next((short for sign, short in _LICENCES if sign in head), f"see {name}")
    return ""


def _has_chat_template(directory: Path, names: set[str]) -> bool:
    if names & {"chat_template.jinja", "chat_template.json"}:
        return True
    path = directory / "tokenizer_config.json"
    if not path.is_file():
        return False
    try:
        return bool(json.loads(path.read_bytes()).get("chat_template"))
    except (ValueError, AttributeError):
        return False


def _json(found: ModelFiles, name: str) -> dict[str, Any]:
    try:
        value = json.loads((found.path / name).read_bytes())
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        return value
    found.missing.append(f"{name} is not a JSON object")
    return {}


def _later_shard(name: str) -> bool:
    shard = _SHARD.fullmatch(name)
    return bool(shard and int(shard[2]) > 1)


def _positive(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
