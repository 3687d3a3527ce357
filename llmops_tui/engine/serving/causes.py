"""Why a server died, in plain words: from how its process ended and the last lines it wrote. Standard library only, pure."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass


@dataclass(frozen=True)
class Cause:
    """`lasting`: another start would end the same way, so none is tried. `port`: another port is all it takes."""

    words: str
    lasting: bool = False
    port: bool = False


@dataclass(frozen=True)
class _Known:
    """`words` may take the pattern's group as `{0}`."""

    pattern: re.Pattern[str]
    words: str
    lasting: bool = False
    port: bool = False


def _known(pattern: str, words: str, *, lasting: bool = False, port: bool = False) -> _Known:
    return _Known(re.compile(pattern, re.IGNORECASE), words, lasting, port)


# The first that is found in the log's tail counts: what names the thing comes before what only says that it failed.
_IN_LOG: tuple[_Known, ...] = (
    _known(
        r"(?:error while loading shared libraries: |ImportError: |OSError: )(lib[\w.+-]+\.so[\w.]*)",
        "the shared library {0} is missing: install the package that has it, or a build for this box",
        lasting=True,
    ),
    _known(r"version `(GLIBC\w*_[\d.]+)' not found", "this box's C library lacks {0}: the build was made for a newer system", lasting=True),
    _known(r"No module named '([\w.]+)'", "the runtime lacks the Python module {0}: install the runtime again", lasting=True),
    _known(
        r"Missing dependencies for serving", "the runtime lacks what transformers serves with: install transformers[serving]", lasting=True
    ),
    _known(r"address already in use|errno 98|couldn't bind (?:HTTP )?(?:server )?socket|cannot bind to", "its port is in use", port=True),
    _known(
        r"CUDA driver version is insufficient|no CUDA-capable device|Failed to infer device type|CUDA driver initialization failed",
        "it found no usable GPU: the driver is missing, too old, or hidden from it",
        lasting=True,
    ),
    _known(r"no kernel image is available", "the build has no code for this GPU's generation: install another build", lasting=True),
    _known(
        r"No available memory for the cache blocks|larger than the maximum number of tokens that can be stored in (?:the )?KV cache"
        r"|KV cache is needed, which is larger than",
        "what is left of the GPU's memory does not hold one conversation: lower context or raise memory_fraction",
        lasting=True,
    ),
    _known(
        r"CUDA out of memory|cudaMalloc failed: out of memory|torch\.(?:cuda\.)?OutOfMemoryError|HIP out of memory"
        r"|CUDA error: out of memory",
        "the GPU's memory ran out: lower context or slots",
    ),
    _known(
        r"std::bad_alloc|MemoryError|can(?:'t|not) allocate memory|unable to allocate|failed to allocate (?:buffer|compute|CPU)",
        "the host's memory ran out: lower context or slots",
    ),
    _known(
        r"unknown model architecture: '?([\w.-]+)|Model architectures \['([\w.-]+)'\]",
        "it does not know the architecture {0}: a newer runtime may",
        lasting=True,
    ),
    _known(
        r"data is not within the file bounds|model is corrupted or incomplete|invalid magic|tensor '?[\w.]+'? has (?:an )?invalid"
        r"|SafetensorError|Error while deserializing header|failed to read (?:magic|tensor|key)",
        "the model's file is broken or cut short: copy or convert it again",
        lasting=True,
    ),
    _known(
        r"failed to (?:apply|load|init) (?:the )?lora|LoRA tensor .* does not exist|does not exist in base model"
        r"|incorrect shape \(maybe wrong base|size mismatch for [\w.]*lora|is greater than max_lora_rank",
        "an adapter does not fit the model: it was made for another base, or its rank is above what is allowed",
        lasting=True,
    ),
    _known(r"trust_remote_code", "the model brings code of its own, which is not run unless you allow it in arguments", lasting=True),
    _known(
        r"couldn't connect to '?https?://|offline mode is enabled|LocalEntryNotFoundError|outgoing traffic has been disabled",
        "it wanted a file from a model hub, and runs offline: is the model's directory whole?",
        lasting=True,
    ),
    _known(
        r"unrecognized arguments: (.+)|No such option:? (\S+)|error: (\S+): this build of llama\.cpp has no such setting",
        "it does not know the argument {0}: see arguments in the spec",
        lasting=True,
    ),
    _known(r"No space left on device", "the disk is full"),
    _known(r"illegal memory access|device-side assert|uncorrectable ECC|Xid", "the GPU failed under it: see `llmops-tui gpus`"),
    _known(r"failed to load model|unable to load model|error loading model: (.+)", "the model could not be loaded: {0}", lasting=True),
)
_BY_SIGNAL: dict[int, Cause] = {
    signal.SIGILL: Cause("the processor lacks an instruction this build needs (AVX-512 or AVX2): install another build", lasting=True),
    signal.SIGKILL: Cause("it was killed, as the kernel does when the memory runs out: lower context or slots"),
    signal.SIGBUS: Cause("it read beyond the end of a file it had mapped: the model changed on the disk, or the disk failed"),
    signal.SIGSEGV: Cause("it crashed (segmentation fault)"),
    signal.SIGABRT: Cause("it gave up (abort)"),
    signal.SIGFPE: Cause("it crashed (arithmetic error)"),
    signal.SIGTERM: Cause("it was ended from outside"),
    signal.SIGINT: Cause("it was interrupted from outside"),
}
# What a SIGILL or a kill for memory leaves in the log is of something else.
_SIGNAL_FIRST = frozenset({signal.SIGILL, signal.SIGBUS})
_ERROR_LINE = re.compile(r"error|exception|failed|fatal|cannot|unable|abort", re.IGNORECASE)
_LOUDEST = re.compile(r"^\w*(?:Error|Exception)\b|^error:", re.IGNORECASE)
_MOST_WORDS = 300


def cause_of(returncode: int | None, tail: str) -> Cause:
    """`returncode` as of subprocess (negative: a signal; above 128 as a shell tells one), None: it lives and does not answer."""
    number = _signal_of(returncode)
    how = _how(returncode, number)
    if number in _SIGNAL_FIRST:
        return _told(_BY_SIGNAL[number], how)
    for known in _IN_LOG:
        if match := known.pattern.search(tail):
            what = next((group for group in match.groups() if group), "see its log")
            return _told(Cause(known.words.format(what.strip()), known.lasting, known.port), how)
    if number in _BY_SIGNAL:
        return _told(_BY_SIGNAL[number], how)
    said = last_error(tail)
    return Cause(": ".join(part for part in (how, said) if part) or "it died without a word")


def last_error(tail: str) -> str:
    """The line that most looks like the reason; empty where none does."""
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    for pattern in (_LOUDEST, _ERROR_LINE):
        if found := next((line for line in reversed(lines) if pattern.search(line)), ""):
            return found[:_MOST_WORDS]
    return ""


def _signal_of(returncode: int | None) -> int:
    if returncode is None:
        return 0
    return -returncode if returncode < 0 else returncode - 128 if 128 < returncode < 160 else 0


def _how(returncode: int | None, number: int) -> str:
    if returncode is None:
        return ""
    if number:
        try:
            return f"{signal.Signals(number).name}, exit {128 + number}"
        except ValueError:
            return f"signal {number}"
    return f"exit code {returncode}"


def _told(cause: Cause, how: str) -> Cause:
    return Cause(f"{cause.words} ({how})" if how else cause.words, cause.lasting, cause.port)
