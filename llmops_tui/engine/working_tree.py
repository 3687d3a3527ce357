"""What a git working tree holds: the commit, and how the files differ from it. Read only, bounded, and without hooks.

git runs commands that a repository's configuration names (fsmonitor, external diffs, text converters, lazy fetches); all
of that is switched off. Clean filters are not: without them the diff of a tree that uses them would be wrong. A tree that
git refuses because another user owns it is not forced open: its configuration could run that user's commands as us. Its
commit is then read from the files alone.
"""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

MAX_DIFF_BYTES = 1 << 20
_SECONDS = 5.0
_MAX_UNTRACKED = 200
_HARMLESS = [
    "--no-optional-locks",
    "--no-pager",
    "-c", "core.fsmonitor=false",
    "-c", "core.hooksPath=/dev/null",
    "-c", "core.quotePath=false",
    "-c", "color.ui=false",
    "-c", "protocol.allow=never",
]  # fmt: skip
_DIFF = ["diff", "--binary", "--no-ext-diff", "--no-textconv", "--ignore-submodules=dirty", "HEAD"]
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class WorkingTree:
    """`commit` is empty before the first one; `diff` holds raw bytes that `git apply` takes unless it was truncated."""

    root: str
    commit: str = ""
    branch: str = ""
    diff: bytes = b""
    diff_truncated: bool = False
    untracked: list[str] = field(default_factory=list)
    problem: str = ""


def describe_tree(directory: Path) -> WorkingTree | None:
    """The tree that `directory` lies in; None if it lies in none. Takes at most about five seconds."""
    root = _find_root(directory)
    if root is None:
        return None
    commit, branch = _head(root)
    deadline = time.monotonic() + _SECONDS
    try:
        output, cut = _git(root, _DIFF, MAX_DIFF_BYTES, deadline) if commit else (b"", False)
        names, _ = _git(root, ["ls-files", "--others", "--exclude-standard", "-z"], 1 << 16, deadline)
    except (OSError, _GitError) as error:
        return WorkingTree(str(root), commit, branch, problem=str(error))
    untracked = [os.fsdecode(name) for name in names.split(b"\0")[:-1]]
    return WorkingTree(str(root), commit, branch, output, cut, untracked[:_MAX_UNTRACKED])


class _GitError(Exception):
    """git refused, failed or took too long."""


def _git(root: Path, arguments: list[str], limit: int, deadline: float) -> tuple[bytes, bool]:
    """The first `limit` bytes of git's output, and whether there was more."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    env |= {"GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}
    process = subprocess.Popen(
        ["git", *_HARMLESS, "-C", str(root), *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    output, complaint = bytearray(), bytearray()
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ, output)
            selector.register(process.stderr, selectors.EVENT_READ, complaint)
            while selector.get_map():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise _GitError(f"git {arguments[0]} took longer than {_SECONDS:g} s")
                for key, _ in selector.select(left):
                    chunk = os.read(key.fd, 1 << 16)
                    if not chunk:
                        selector.unregister(key.fileobj)
                    elif len(key.data) <= limit:
                        key.data.extend(chunk)
                if len(output) > limit:
                    return bytes(output[:limit]), True
        if process.wait(timeout=1) != 0:
            raise _GitError(f"git {arguments[0]}: {complaint.decode(errors='replace').strip().splitlines()[0] if complaint else 'failed'}")
        return bytes(output), False
    except subprocess.TimeoutExpired:
        raise _GitError(f"git {arguments[0]} does not end") from None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()
        process.stderr.close()


def _find_root(directory: Path) -> Path | None:
    """The nearest parent with a `.git`: a directory, or the file that a worktree or submodule has there."""
    for place in (directory, *directory.parents):
        if (place / ".git").exists():
            return place
    return None


def _head(root: Path) -> tuple[str, str]:
    """Commit and branch as the files say: works where git is missing or refuses the owner."""
    git = root / ".git"
    try:
        if git.is_file():
            git = root / git.read_text().removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return (head if _COMMIT.fullmatch(head) else ""), ""
        reference = head.removeprefix("ref:").strip()
        branch = reference.removeprefix("refs/heads/")
        # a linked worktree keeps branches in the main repository's directory
        common = git / (git / "commondir").read_text().strip() if (git / "commondir").is_file() else git
        if (common / reference).is_file():
            return (common / reference).read_text().strip(), branch
        packed = common / "packed-refs"
        for line in packed.read_text().splitlines() if packed.is_file() else []:
            if line.endswith(f" {reference}"):
                return line.split(" ")[0], branch
        return "", branch
    except (OSError, UnicodeDecodeError):
        return "", ""
