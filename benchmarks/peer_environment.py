"""A peer that has to be installed gets an environment of its own, outside the project and kept for the next run."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def peer_python(name: str, requirements: Sequence[str]) -> Path:
    """The interpreter of an environment that holds `requirements`; made with venv and pip where it does not stand yet.

    Raises subprocess.CalledProcessError when pip fails; a half-made environment is not reused.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llmops-tui" / "benchmarks"
    mark = hashlib.sha256(repr((sys.version_info[:2], sorted(requirements))).encode()).hexdigest()[:10]
    root = cache / f"{name}-{mark}"
    python = root / "bin" / "python"
    complete = root / "complete"
    if not complete.exists():
        print(f"making an environment for {name}: {' '.join(requirements)}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(root)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *requirements], check=True)
        complete.touch()
    return python
