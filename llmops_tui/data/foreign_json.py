"""Reading a JSON object that a run's user wrote, with the engine's rights: whatever lies there, nobody waits for it or is filled by it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any


def read_object(path: Path, most_bytes: int) -> tuple[dict[str, Any], float]:
    """The object, and when it was written (Unix seconds). Raises OSError where there is no such file.

    Raises ValueError for what is something else: a pipe that nobody writes to, a file without end, one that is too deep.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > most_bytes:
            raise ValueError(f"{path.name} is no file of at most {most_bytes} bytes")
        try:
            value = json.loads(file.read(most_bytes))
        except RecursionError as error:
            raise ValueError(f"{path.name} is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} holds no object")
    return value, status.st_mtime
