"""What can be wrong between here and another box, in plain words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from llmops_tui.errors import EngineUnavailableError


class LinkError(EngineUnavailableError):
    """No connection, or one that broke; the message says why, in plain words."""


class QuestionError(LinkError):
    """ssh would have to ask its user something (a password, whether to trust a host key) and may not: there is no terminal for it."""


class RemoteError(EngineUnavailableError):
    """A program there failed; `code` is its exit code, the message its last line on stderr."""

    def __init__(self, message: str, next_step: str = "", code: int = 1) -> None:
        super().__init__(message, next_step)
        self.code = code


# What OpenSSH says (9.x), what it means, what to do; the first that fits. {host} is filled in.
_WORDS: tuple[tuple[str, str, str], ...] = (
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", "{host} shows another host key than before: it was set up anew, or somebody is in between",
     "compare the key, then `ssh-keygen -R {host}`"),
    ("Host key verification failed", "the host key of {host} is not known here yet", "look at it once: `ssh {host}`"),
    (r"Permission denied \(|Too many authentication failures", "{host} accepted no key or password of yours", "try `ssh {host}`"),
    ("Could not resolve hostname", "no box {host} is known here", "name it as in `ssh BOX`, or add it to ~/.ssh/config"),
    ("Connection refused", "{host} refuses the connection: no sshd listens at that port", "check the port, and that sshd runs there"),
    ("timed out|No route to host|Network is unreachable", "{host} cannot be reached", "check that it is on and the line between"),
    ("not responding", "the line to {host} fell silent", "it is tried again"),
    ("Connection (closed|reset) by|Broken pipe|closed by remote host", "{host} closed the connection", "it is tried again"),
)  # fmt: skip
_QUESTIONS = 3  # as many of the words are about questions: nobody but the user can answer them


def explain(host: str, said: Sequence[str]) -> LinkError:
    """ssh's complaints in plain words; what is not known is told as ssh said it, last line."""
    text = "\n".join(said)
    for number, (pattern, message, step) in enumerate(_WORDS):
        if re.search(pattern, text):
            kind = QuestionError if number < _QUESTIONS else LinkError
            return kind(message.format(host=host), step.format(host=host))
    told = [line for line in said if not line.startswith("Warning: Permanently added")]
    if not told:
        return LinkError(f"the connection to {host} ended", "it is made again")
    return LinkError(f"ssh {host}: {told[-1].removeprefix('ssh: ')}", f"`ssh {host}` on a terminal shows more")
