"""llama.cpp's own HTTP server in a process of its own: run by the runtime's Python, which has `xllamacpp` and nothing of ours.

    PYTHON -I llamacpp_server.py SETTINGS.json

The binding starts the native server within its process and has no way to stop it, so this process is the server: a signal ends both.
SETTINGS.json: `{"params": {dotted CommonParams attribute: value}, "adapters": [path, …], "threads": n}`.
Exit codes: 2 a setting that this build does not have; 1 whatever llama.cpp refused, told on stderr.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time


def main(arguments: list[str]) -> int:
    """Serve until a signal comes."""
    with open(arguments[0], encoding="utf-8") as file:
        settings = json.load(file)
    import xllamacpp

    params = xllamacpp.CommonParams()
    for name, value in settings["params"].items():
        problem = assign(params, name, value)
        if problem:
            print(f"error: {problem}", file=sys.stderr, flush=True)
            return 2
    if settings["threads"]:
        for part in (params.cpuparams, params.cpuparams_batch):
            part.n_threads = settings["threads"]
    if settings["adapters"]:
        loras = []
        for path in settings["adapters"]:
            lora = xllamacpp.CommonAdapterLoraInfo()
            lora.path, lora.scale = path, 0.0  # each request says which one it wants
            loras.append(lora)
        params.lora_adapters = loras
    begun = time.monotonic()
    try:
        server = xllamacpp.Server(params)
    except (RuntimeError, ValueError) as error:
        print(f"error: llama.cpp did not start: {error}", file=sys.stderr, flush=True)
        # Its threads live on after a failed start and would keep an orderly exit waiting.
        os._exit(1)
    print(f"llama.cpp listens on {server.listening_address} after {time.monotonic() - begun:.1f} s", flush=True)
    while True:
        signal.pause()


def assign(params: object, name: str, value: object) -> str:
    """Set an attribute, however deep; what is wrong with it, or nothing."""
    *path, last = name.split(".")
    for part in path:
        params = getattr(params, part, None)
    if params is None or not hasattr(params, last):
        return f"{name}: this build of llama.cpp has no such setting"
    old = getattr(params, last)
    try:
        if isinstance(value, str) and not isinstance(old, str):
            value = converted(value, old)
        setattr(params, last, value)
    except (TypeError, ValueError, OverflowError) as error:
        return f"{name}: {value!r}: {error}"
    return ""


def converted(text: str, old: object) -> object:
    """A word of the command line as what the setting already is. Raises ValueError."""
    if isinstance(old, bool):
        if text.lower() not in ("true", "false", "1", "0", "on", "off"):
            raise ValueError("write true or false")
        return text.lower() in ("true", "1", "on")
    if isinstance(old, int | float):
        # An enumeration is an int too: it takes its member's name.
        members = getattr(type(old), "__members__", {})
        return members[text] if text in members else type(old)(text)
    if isinstance(old, list):
        return text.split(",")
    if isinstance(old, set):
        return set(text.split(","))
    raise ValueError("cannot be set from the command line")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
