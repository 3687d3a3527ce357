"""`endpoints start`: from a model, a spec or both to an endpoint that answers."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from llmops_tui.commands.connect import connect
from llmops_tui.commands.endpoints_wait import settle
from llmops_tui.commands.names import name_from_path
from llmops_tui.commands.output import MISSING, one_line, print_json, print_table, say, size
from llmops_tui.commands.spec_file import apply_setting, read_mapping
from llmops_tui.errors import UsageError

if TYPE_CHECKING:
    from llmops_tui.specs.answers_serving import CheckedEndpoint

_SERVER_OPTIONS = ("runtime", "context", "slots", "threads")


def start(args: argparse.Namespace) -> int:
    """Start it and wait until it answers; with `--dry-run` only say what it would be."""
    spec = endpoint_spec(args)
    client = connect(args)
    if args.dry_run:
        checked = client.serving.check(spec)
        if args.json:
            print_json(checked)
        else:
            _print_checked(checked)
        return 0
    endpoint = client.serving.start(spec)
    if not args.no_wait:
        endpoint = settle(client, endpoint)
    if args.json:
        print_json(endpoint)
        return 0
    print(endpoint["curl"])
    return 0


def endpoint_spec(args: argparse.Namespace) -> dict[str, Any]:
    """The spec's mapping: the file, over it `--set`, over both the options. Raises UsageError."""
    spec = read_mapping(args.file) if args.file else {}
    version = _only_version(spec, args)
    for setting in args.settings:
        if setting.startswith("serve."):
            apply_setting(version, setting)
        else:
            apply_setting(spec, setting)
    if not version:
        raise UsageError("nothing to serve", "name a model (`llmops-tui models list`), --provider or -f FILE")
    version["serve"] = {**_mapping(version.get("serve"), "serve"), **server_options(args)}
    if not version["serve"]:
        del version["serve"]
    if args.replicas is not None:
        version["replicas"] = args.replicas
    spec["name"] = args.name or spec.get("name") or default_name(str(version.get("model") or version.get("provider") or ""))
    if args.alias:
        spec["aliases"] = [*_listed(spec.get("aliases"), "aliases"), *args.alias]
    if args.on_demand:
        spec["on_demand"] = True
    if args.idle_unload is not None:
        spec["idle_unload_seconds"] = args.idle_unload
    if args.pin:
        spec["pinned"] = True
    if args.keep_text is not None:
        spec["record"] = {**_mapping(spec.get("record"), "record"), "text_fraction": args.keep_text}
    return spec


def server_options(args: argparse.Namespace) -> dict[str, Any]:
    """The keys of a server's spec that have options of their own."""
    found: dict[str, Any] = {name: value for name in _SERVER_OPTIONS if (value := getattr(args, name)) is not None}
    if args.gpus is not None:
        found["resources"] = {"gpus": args.gpus}
    return found


def default_name(model: str) -> str:
    """What an endpoint is called when nobody said: `support` for support@v3, a file's own name."""
    return name_from_path(model.split("@")[0])


def _only_version(spec: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """The version that the options are about; it is put into the spec. Empty where nothing names a model."""
    versions = _listed(spec.get("versions"), "versions")
    source = {name: value for name in ("model", "provider") if (value := getattr(args, name))}
    if len(source) > 1:
        raise UsageError("a model and a provider are named", "name one of them; `endpoints version add` adds the other")
    about = [name for name in (*_SERVER_OPTIONS, "gpus", "replicas") if getattr(args, name) is not None]
    about += [setting for setting in args.settings if setting.startswith("serve.")]
    if len(versions) > 1:
        if source:
            raise UsageError(
                f"{args.file} names {len(versions)} versions, and the command line one more", "name the models in the one place"
            )
        if about:
            raise UsageError(f"{args.file} names {len(versions)} versions: which one is {about[0]} for?", "say it in the file, under serve")
        return _mapping(versions[0], "versions")
    version = _mapping(versions[0], "versions") if versions else {}
    version.update(source)
    if version:
        spec["versions"] = [version]
    return version


def _mapping(value: object, key: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"{key}: must be a mapping of keys to values", "see docs/serving.md")
    return value


def _listed(value: object, key: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise UsageError(f"{key}: must be a list", "see docs/serving.md")
    return value


def _print_checked(checked: CheckedEndpoint) -> None:
    for warning in checked["warnings"]:
        say(f"llmops-tui: warning: {one_line(warning)}")
    rows = [
        [
            server["version"], server["model"], f"{server['runtime']} {server['runtime_version']}", "GPU" if server["gpu"] else "CPU",
            f"{server['slots']} x {server['context']:,} tokens", size(server["memory_bytes"]) if server["memory_bytes"] else MISSING,
        ]
        for server in checked["servers"]
    ]  # fmt: skip
    if rows:
        print_table(["VERSION", "MODEL", "RUNTIME", "ON", "SLOTS", "MEMORY"], rows)
    print(f"{one_line(str(checked['spec']['name']))} could be served; nothing was started")
