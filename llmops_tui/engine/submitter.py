"""The user a run belongs to, where the engine is root's: the run's job is that user's, with that user's rights and no more.

The engine keeps what it decides by (spec, journal, launch, exit) in files of root's, in a directory that the user cannot
write. The user has events, output, checkpoints and artifacts, made here beforehand. Where the engine is not root's, all
runs are its own user's and nothing here applies.
"""

from __future__ import annotations

import os
import pwd
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmops_tui.data.masking import is_secret
from llmops_tui.data.rundir import RunDir

JOB_UMASK = 0o027
# The directory is walked through by the group, whose members' runs may use this one's models; only the owner reads it.
_RUN_MODE, _TOLD_MODE, _OWN_DIRECTORY_MODE, _ATTEMPT_MODE = 0o751, 0o640, 0o2750, 0o700
_KEPT_NAMES = {
    "PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LANGUAGE", "TZ", "VIRTUAL_ENV", "SSL_CERT_FILE", "SSL_CERT_DIR", "LLMOPS_MODEL_DIRS",
}  # fmt: skip
_KEPT_FAMILIES = (
    "CUDA_", "CUDNN_", "HF_", "HIP_", "HSA_", "LC_", "MKL_", "NCCL_", "NVIDIA_", "OMP_", "OPENBLAS_", "PYTORCH_", "ROCR_", "TORCH_",
    "TRANSFORMERS_", "FAKE_NVML_",
)  # fmt: skip


@dataclass(frozen=True)
class Account:
    """A user as the password file tells, with every group."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str

    def environment(self, engines: Mapping[str, str]) -> dict[str, str]:
        """A fresh environment as at a login: of the engine's own only what describes the box, never its secrets."""
        return {**of_the_box(engines), "HOME": self.home, "USER": self.name, "LOGNAME": self.name, "SHELL": self.shell}

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "uid": self.uid, "gid": self.gid, "groups": list(self.groups), "home": self.home, "shell": self.shell}


def of_the_box(environment: Mapping[str, str]) -> dict[str, str]:
    """What of an environment describes the box, without its secrets."""
    return {
        name: value
        for name, value in environment.items()
        if (name in _KEPT_NAMES or name.startswith(_KEPT_FAMILIES)) and not is_secret(name)
    }


def account_of(uid: int) -> Account | None:
    """The account that work for this user must be done as; None where that is the engine's own.

    Raises OSError for a user whom the box does not know (any more).
    """
    if os.geteuid() != 0 or uid == 0:
        return None
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise ProcessLookupError(3, f"this box has no user with uid {uid}") from None
    groups = tuple(sorted(os.getgrouplist(entry.pw_name, entry.pw_gid)))
    return Account(entry.pw_name, uid, entry.pw_gid, groups, entry.pw_dir or "/", entry.pw_shell or "/bin/sh")


def give_run(run: RunDir, attempt: int, account: Account, group: int | None) -> None:
    """Make the run's files so that its owner's job can write what is the job's, and nothing else. Raises OSError.

    `group` may read what the job makes: the served group of a shared engine.
    """
    run.attempt(attempt).chmod(_ATTEMPT_MODE)
    for path in (run.spec, run.control):
        _make(path, 0, account)
    for path in (run.events, run.log):
        _make(path, account.uid, account)
    for directory in (run.checkpoints, run.artifacts):
        # In a directory that only root writes: no link can be put in its place.
        directory.mkdir(exist_ok=True)
        os.chown(directory, account.uid, account.gid if group is None else group, follow_symlinks=False)
        directory.chmod(_OWN_DIRECTORY_MODE)
    os.chown(run.path, 0, account.gid)
    run.path.chmod(_RUN_MODE)


def _make(path: os.PathLike[str], owner: int, account: Account) -> None:
    """A file that the account may read. Its group may not: on some boxes it is everybody's, and a spec may hold secrets."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        os.fchown(descriptor, owner, account.gid)
        if owner == account.uid:
            os.fchmod(descriptor, 0o600)
            return
        try:
            os.setxattr(descriptor, "system.posix_acl_access", _readable_by(account.uid))
        except OSError:  # a file system without access lists
            os.fchmod(descriptor, _TOLD_MODE)
    finally:
        os.close(descriptor)


def _readable_by(uid: int) -> bytes:
    """An access list (linux/posix_acl_xattr.h): the owner writes, this user reads, and nobody else."""
    unnamed = 0xFFFFFFFF
    user_obj, user, group_obj, mask, other = (0x01, 6, unnamed), (0x02, 4, uid), (0x04, 0, unnamed), (0x10, 4, unnamed), (0x20, 0, unnamed)
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in (user_obj, user, group_obj, mask, other))
