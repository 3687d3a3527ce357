"""What an export brought becomes a directory: for the command line and for the console."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from pathlib import Path

from llmops_tui.errors import ConflictError, LlmopsError


def unpack(archive: bytes, target: Path) -> None:
    """Make the directory `target` of an export, whole or not at all. Raises ConflictError where it exists, LlmopsError."""
    import tarfile  # only now: the console starts without it

    work = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        with tarfile.open(fileobj=io.BytesIO(archive)) as members:
            members.extractall(work, filter="data")
        work.chmod(0o755)
        if os.path.lexists(target):  # an empty directory would be replaced without a word
            raise ConflictError(f"{target} is there already", "name a directory that is not there yet")
        work.rename(target)
        work = None
    except (OSError, tarfile.TarError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise LlmopsError(f"{target}: {reason}", "name a directory that is not there yet, where you can write and there is room") from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
