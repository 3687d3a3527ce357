"""llama.cpp itself, from the shared library of the `xllamacpp` wheel: a GGUF file says its logits, token by token.

Its server tells at most some probabilities a token it generates, and never of a prompt's; so the C interface (llama.h) is called,
which the library exports and no Python binding offers. The two structs of parameters are taken as llama.cpp fills them and handed
back: of the context's only the three first numbers are changed (tokens in all, a call, a pass), and what came of it is asked at
each load.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from llmops_tui.errors import UsageError

_TOKENS_A_CALL = 256
_NEXT = "install the pinned xllamacpp: pip install 'llmops-tui[serve]', or llmops-tui runtimes install llamacpp"


class _Parameters(ctypes.Structure):
    """Room for any of llama.cpp's structs of parameters: both are passed in memory, where what lies behind their end is not read."""

    _fields_ = (("words", ctypes.c_uint32 * 256),)


class _Batch(ctypes.Structure):
    """llama_batch (llama.h)."""

    _fields_ = (
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", ctypes.c_void_p),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    )


_HANDLE, _NUMBER, _TEXT = ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p
_LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
# Name: what it answers, what it is given (llama.h).
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "llama_log_set": (None, [_LOG, _HANDLE]),
    "llama_model_default_params": (_Parameters, []),
    "llama_context_default_params": (_Parameters, []),
    "llama_model_load_from_file": (_HANDLE, [_TEXT, _Parameters]),
    "llama_init_from_model": (_HANDLE, [_HANDLE, _Parameters]),
    "llama_adapter_lora_init": (_HANDLE, [_HANDLE, _TEXT]),
    "llama_set_adapters_lora": (_NUMBER, [_HANDLE, ctypes.POINTER(_HANDLE), ctypes.c_size_t, ctypes.POINTER(ctypes.c_float)]),
    "llama_set_n_threads": (None, [_HANDLE, _NUMBER, _NUMBER]),
    "llama_n_ctx": (ctypes.c_uint32, [_HANDLE]),
    "llama_n_batch": (ctypes.c_uint32, [_HANDLE]),
    "llama_get_memory": (_HANDLE, [_HANDLE]),
    "llama_memory_clear": (None, [_HANDLE, ctypes.c_bool]),
    "llama_batch_init": (_Batch, [_NUMBER, _NUMBER, _NUMBER]),
    "llama_batch_free": (None, [_Batch]),
    "llama_decode": (_NUMBER, [_HANDLE, _Batch]),
    "llama_get_logits": (ctypes.POINTER(ctypes.c_float), [_HANDLE]),
    "llama_model_get_vocab": (_HANDLE, [_HANDLE]),
    "llama_vocab_n_tokens": (_NUMBER, [_HANDLE]),
    "llama_vocab_is_eog": (ctypes.c_bool, [_HANDLE, _NUMBER]),
    "llama_tokenize": (_NUMBER, [_HANDLE, _TEXT, _NUMBER, ctypes.POINTER(_NUMBER), _NUMBER, ctypes.c_bool, ctypes.c_bool]),
    "llama_model_chat_template": (_TEXT, [_HANDLE, _TEXT]),
    "llama_free": (None, [_HANDLE]),
    "llama_model_free": (None, [_HANDLE]),
}


class LlamaModel:
    """A GGUF file loaded by llama.cpp, with room for `context` tokens. Close it; with `with` it closes itself.

    `adapter`: a GGUF-LoRA file that is applied to it. Raises UsageError where llama.cpp does not load one of them.
    """

    def __init__(self, library: Path, path: Path, *, threads: int, context: int, adapter: Path | None = None) -> None:
        self._native = _load(library)
        _SAID.clear()
        self._model = self._native.llama_model_load_from_file(os.fsencode(path), self._native.llama_model_default_params())
        if not self._model:
            raise UsageError(f"llama.cpp does not load {path}{_why()}", "make or download the file again")
        self._vocabulary = self._native.llama_model_get_vocab(self._model)
        self.vocabulary_size = int(self._native.llama_vocab_n_tokens(self._vocabulary))
        wanted = self._native.llama_context_default_params()
        room = -(-max(context, _TOKENS_A_CALL) // 256) * 256
        wanted.words[0], wanted.words[1], wanted.words[2] = room, _TOKENS_A_CALL, _TOKENS_A_CALL
        self._context = self._native.llama_init_from_model(self._model, wanted)
        got = (self._native.llama_n_ctx(self._context), self._native.llama_n_batch(self._context)) if self._context else (0, 0)
        if got != (room, _TOKENS_A_CALL):
            self.close()
            raise UsageError(f"{library}: asked for {(room, _TOKENS_A_CALL)} tokens, llama.cpp made room for {got}{_why()}", _NEXT)
        self._native.llama_set_n_threads(self._context, threads, threads)
        self._batch = self._native.llama_batch_init(_TOKENS_A_CALL, 0, 1)
        if adapter is not None:
            self._apply(adapter)

    def __enter__(self) -> LlamaModel:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give its memory back; a second time does nothing."""
        if getattr(self, "_batch", None) is not None:
            self._native.llama_batch_free(self._batch)
        if getattr(self, "_context", None):
            self._native.llama_free(self._context)
        if self._model:
            self._native.llama_model_free(self._model)
        self._batch = self._context = self._model = None

    def logits(self, ids: Sequence[int], wanted: Sequence[bool]) -> Iterator[np.ndarray]:
        """Logits after each token that is wanted, a piece at a time: shape (wanted, vocabulary), float32; who keeps them copies."""
        self._native.llama_memory_clear(self._native.llama_get_memory(self._context), True)
        for begin in range(0, len(ids), _TOKENS_A_CALL):
            piece = slice(begin, begin + _TOKENS_A_CALL)
            count = self._decode(ids[piece], wanted[piece], begin)
            if count:
                yield self._outputs(count)

    def greedy(self, ids: Sequence[int], most_tokens: int) -> list[int]:
        """What it answers, each time the likeliest token, until it ends by itself (its end token is the last one) or has said so many."""
        last = [False] * (len(ids) - 1) + [True]
        found = [int(part[-1].argmax()) for part in self.logits(ids, last)]
        while len(found) < most_tokens and not self.ends(found[-1]):
            self._decode(found[-1:], [True], len(ids) + len(found) - 1)
            found.append(int(self._outputs(1)[0].argmax()))
        return found

    def ends(self, token: int) -> bool:
        """Whether generation stops at this token."""
        return bool(self._native.llama_vocab_is_eog(self._vocabulary, token))

    def tokens(self, text: str) -> list[int]:
        """The text as llama.cpp cuts it, special tokens read as such, nothing put before it."""
        raw = text.encode()
        room = (ctypes.c_int32 * (len(raw) + 16))()
        count = self._native.llama_tokenize(self._vocabulary, raw, len(raw), room, len(room), False, True)
        return list(room[: max(0, count)])

    def chat_template(self) -> str:
        """The template in the file; empty where there is none."""
        text = self._native.llama_model_chat_template(self._model, None)
        return text.decode("utf-8", "replace") if text else ""

    def _decode(self, ids: Sequence[int], wanted: Sequence[bool], begin: int) -> int:
        batch = self._batch
        batch.n_tokens = len(ids)
        for place, (token, told) in enumerate(zip(ids, wanted, strict=True)):
            batch.token[place], batch.pos[place], batch.logits[place] = token, begin + place, told
            batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
        if code := self._native.llama_decode(self._context, batch):
            raise UsageError(f"llama.cpp failed to decode {len(ids)} tokens at {begin} (code {code}){_why()}", "lower measure.max_length")
        return sum(wanted)

    def _outputs(self, count: int) -> np.ndarray:
        return np.ctypeslib.as_array(self._native.llama_get_logits(self._context), shape=(count, self.vocabulary_size))

    def _apply(self, adapter: Path) -> None:
        loaded = self._native.llama_adapter_lora_init(self._model, os.fsencode(adapter))
        one = (_HANDLE * 1)(loaded)
        if not loaded or self._native.llama_set_adapters_lora(self._context, one, 1, (ctypes.c_float * 1)(1.0)):
            self.close()
            raise UsageError(f"llama.cpp does not take the adapter {adapter}{_why()}", "name an adapter of this base")


def _note(level: int, text: bytes | None, _: object) -> None:
    if level >= _WARNING and text:
        _SAID[:] = [*_SAID[-4:], text.decode("utf-8", "replace").strip()]


def _why() -> str:
    return f": {_SAID[-1]}" if _SAID else ""


_WARNING = 3  # GGML_LOG_LEVEL_WARN
_SAID: list[str] = []
# llama.cpp has one log for the whole process and calls this as long as it lives.
_CALLED = _LOG(_note)


def _load(library: Path) -> Any:
    try:
        native = ctypes.CDLL(os.fspath(library))
        for name, (answer, given) in _FUNCTIONS.items():
            function: Callable[..., Any] = getattr(native, name)
            function.restype, function.argtypes = answer, given  # type: ignore[attr-defined]
    except (OSError, AttributeError) as error:
        raise UsageError(f"{library} does not offer llama.cpp's interface: {error}", _NEXT) from error
    native.llama_log_set(_CALLED, None)
    return native
