"""Models found where they already lie, read only: hub caches, plain directories, GGUF files, Ollama, LM Studio.

Nothing is copied, locked or loaded. Two names for the same weights (a link, a hard link, one blob) give one row.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from llmops_tui.data.recognition import Recogniser
from llmops_tui.specs.answers import ModelInfo

# publisher/model/quantisation below a root, and one level to spare
_DEPTH = 4


@dataclass(frozen=True)
class _Found:
    name: str
    source: str
    path: Path
    note: str = ""


def discover(recogniser: Recogniser, environment: Mapping[str, str] | None = None) -> list[ModelInfo]:
    """Every model found, sorted by name; broken and half-downloaded ones carry their `problems`."""
    environment = os.environ if environment is None else environment
    models: dict[tuple[int, int] | str, ModelInfo] = {}
    for found in _places(environment):
        info = recogniser.look(found.path)
        # A config.json of another program has neither weights nor an architecture.
        if not info["format"] or not (info["bytes"] or info["architecture"]):
            continue
        info["name"], info["source"] = found.name, found.source
        if found.note and (found.source != "hub" or not info["complete"]):
            info["problems"].append(found.note)
        models.setdefault(_weights_key(Path(info["path"])), info)
    return sorted(models.values(), key=lambda info: info["name"].lower())


def hub_cache(environment: Mapping[str, str]) -> Path:
    """Where huggingface_hub keeps models (its docs, "environment variables")."""
    if path := environment.get("HF_HUB_CACHE"):
        return Path(path).expanduser()
    if path := environment.get("HF_HOME"):
        return Path(path).expanduser() / "hub"
    cache = environment.get("XDG_CACHE_HOME")
    return (Path(cache).expanduser() if cache else _home(environment) / ".cache") / "huggingface" / "hub"


def _home(environment: Mapping[str, str]) -> Path:
    return Path(environment.get("HOME") or Path.home())


def _places(environment: Mapping[str, str]) -> Iterator[_Found]:
    home = _home(environment)
    yield from _hub(hub_cache(environment))
    plain = [Path(path).expanduser() for path in environment.get("LLMOPS_MODEL_DIRS", "").split(":") if path]
    for root in [*plain, home / "models", Path("/models")]:
        yield from _below(root, "directory")
    yield from _below(home / ".cache" / "llama.cpp", "llama.cpp")
    for root in [*_lm_studio_setting(home), home / ".lmstudio" / "models", home / ".cache" / "lm-studio" / "models"]:
        yield from _below(root, "lm-studio")
    ollama = environment.get("OLLAMA_MODELS")
    yield from _ollama(Path(ollama).expanduser() if ollama else home / ".ollama" / "models")


def _entries(directory: Path) -> list[os.DirEntry[str]]:
    # A directory that is missing, or that its owner lets nobody read, holds nothing for us.
    with suppress(OSError), os.scandir(directory) as found:
        return sorted(found, key=lambda entry: entry.name)
    return []


def _below(root: Path, source: str) -> Iterator[_Found]:
    """Model directories and GGUF files, links followed one step and told where they lead out of the root."""
    real_root = os.path.realpath(root)
    pending = [(root, 0)]
    while pending:
        directory, depth = pending.pop()
        entries = _entries(directory)
        names = {entry.name for entry in entries}
        name = directory.relative_to(root).as_posix() if directory != root else root.name
        if names & {"config.json", "adapter_config.json"}:
            yield _Found(name, source, directory, _leads_out(directory, real_root))
            continue
        for entry in entries:
            path = directory / entry.name
            if entry.name.lower().endswith(".gguf") and not _is_part(entry.name):
                yield _Found(path.relative_to(root).with_suffix("").as_posix(), source, path, _leads_out(path, real_root))
            elif depth < _DEPTH and not entry.name.startswith(".") and _is_directory(entry):
                # Nothing is searched behind a link: only a model directory itself may be one.
                pending.append((path, _DEPTH if entry.is_symlink() else depth + 1))


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_part(name: str) -> bool:
    """A later shard, or the image projector that belongs to a model beside it."""
    return ("-of-" in name and "-00001-of-" not in name) or name.lower().startswith("mmproj")


def _leads_out(path: Path, real_root: str) -> str:
    real = os.path.realpath(path)
    return "" if real == real_root or real.startswith(real_root + os.sep) else f"a link to {real}"


def _hub(cache: Path) -> Iterator[_Found]:
    """`models--org--name/{refs,snapshots/<revision>,blobs}`; the revision is named where it is not `main`."""
    for repository in _entries(cache):
        if not repository.name.startswith("models--"):
            continue
        name = repository.name.removeprefix("models--").replace("--", "/")
        directory = Path(repository.path)
        main = ""
        with suppress(OSError, UnicodeDecodeError):
            main = (directory / "refs" / "main").read_text().strip()
        unfinished = any(blob.name.endswith(".incomplete") for blob in _entries(directory / "blobs"))
        snapshots = _entries(directory / "snapshots")
        for snapshot in snapshots:
            plain = len(snapshots) == 1 or snapshot.name == main
            note = "a download is unfinished" if unfinished else ""
            yield _Found(name if plain else f"{name}:{snapshot.name[:8]}", "hub", Path(snapshot.path), note)


def _lm_studio_setting(home: Path) -> list[Path]:
    try:
        folder = json.loads((home / ".lmstudio" / "settings.json").read_bytes()).get("downloadsFolder")
    except (OSError, ValueError, AttributeError):
        return []
    return [Path(folder).expanduser()] if isinstance(folder, str) and folder else []


def _ollama(root: Path) -> Iterator[_Found]:
    """`manifests/<registry>/<namespace>/<model>/<tag>` name a blob, which is a plain GGUF file."""
    for registry in _entries(root / "manifests"):
        for namespace in _entries(Path(registry.path)):
            for model in _entries(Path(namespace.path)):
                for tag in _entries(Path(model.path)):
                    if digest := _ollama_weights(Path(tag.path)):
                        owner = "" if namespace.name == "library" else f"{namespace.name}/"
                        yield _Found(f"{owner}{model.name}:{tag.name}", "ollama", root / "blobs" / digest.replace(":", "-"))


def _ollama_weights(manifest: Path) -> str:
    try:
        layers = json.loads(manifest.read_bytes())["layers"]
        return next((str(layer["digest"]) for layer in layers if layer["mediaType"] == "application/vnd.ollama.image.model"), "")
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _weights_key(path: Path) -> tuple[int, int] | str:
    """The same for two paths to the same weights."""
    try:
        if path.is_dir():
            path = min((entry for entry in path.iterdir() if entry.suffix == ".safetensors"), default=path)
        stat = path.stat()
    except OSError:
        return str(path)
    return stat.st_dev, stat.st_ino
