"""`endpoints chat` and `endpoints feedback`: ask, and say what the answer was worth."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from typing import TYPE_CHECKING, Any

from llmops_tui.commands.connect import connect
from llmops_tui.commands.output import one_line, print_json, print_json_line, say
from llmops_tui.commands.spec_file import apply_setting
from llmops_tui.errors import LlmopsError, UsageError
from llmops_tui.specs.chat_answer import ChatAnswer, shown_text

if TYPE_CHECKING:
    from llmops_tui.client_serving import ServingCalls

_OWN_FIELDS = ("messages", "model", "stream", "version", "n")
_WORDS = """/new           forget what was said
/system TEXT   another system prompt, and a new conversation; without a text: none
/version V     ask this version; without a name: as the route says
/up  /down     say what the last answer was worth; words after it are a comment
/quit          leave (also Ctrl-D); Ctrl-C gives an answer up"""


def chat(args: argparse.Namespace) -> int:
    """One question and its answer; on a terminal without a question a conversation. Exit code 1 for an answer that broke off."""
    fields = request_fields(args)
    serving = connect(args).serving
    prompt = args.prompt
    if prompt is None and sys.stdin.isatty():
        if args.json:
            raise UsageError("a conversation is not printed as JSON", "give a PROMPT")
        serving.endpoint(args.name)
        return Conversation(serving, args.name, args.system, fields, args.quiet).hold()
    if prompt is None or prompt == "-":
        prompt = sys.stdin.read().strip()
    if not prompt.strip():
        raise UsageError("nothing to ask: the prompt is empty", "write it after the name, or into stdin")
    answer = ask(
        serving, args.name, {**fields, "messages": [*opening(args.system), {"role": "user", "content": prompt}]}, as_json=args.json
    )
    if not args.json and not args.quiet:
        say(one_line(told(answer)))
    if answer.error:
        raise LlmopsError(answer.error, "what came before it was printed; `llmops-tui endpoints show` tells how it stands")
    return 0


def feedback(args: argparse.Namespace) -> int:
    """Up, down, a number, or only words."""
    correction = sys.stdin.read().rstrip("\n") if args.correction == "-" else args.correction
    if args.rating is None and not args.comment and not correction:
        raise UsageError("nothing to note", "say up, down or a number, or leave a --comment or a --correction")
    done = connect(args).serving.feedback(args.request, args.rating, comment=args.comment, correction=correction)
    if args.json:
        print_json(done)
    else:
        print(one_line(done["done"]))
    return 0


def request_fields(args: argparse.Namespace) -> dict[str, Any]:
    """The request but for its messages. Raises UsageError."""
    fields: dict[str, Any] = {}
    for setting in args.settings:
        apply_setting(fields, setting)
    if wrong := next((name for name in _OWN_FIELDS if name in fields), ""):
        raise UsageError(f"--set {wrong}: is set by the command itself", "leave it out")
    options = {"temperature": args.temperature, "top_p": args.top_p, "max_tokens": args.max_tokens, "seed": args.seed}
    fields |= {name: value for name, value in options.items() if value is not None}
    fields["stream_options"] = {"include_usage": True}
    if args.version:
        fields["version"] = args.version
    return fields


def opening(system: str) -> list[dict[str, str]]:
    """The messages before the first question."""
    return [{"role": "system", "content": system}] if system else []


def ask(serving: ServingCalls, name: str, body: dict[str, Any], as_json: bool = False) -> ChatAnswer:
    """Stream an answer to stdout, as text or as its chunks and a summary. Ctrl-C gives it up and raises KeyboardInterrupt."""
    answer = ChatAnswer(time.monotonic())
    safe = sys.stdout.isatty()
    stream = serving.chat(name, body)
    answer.request_id, answer.version, answer.replica = stream.request_id, stream.version, stream.replica
    try:
        for chunk in stream:
            new = answer.take(chunk, time.monotonic())
            if as_json:
                print_json_line(chunk)
            elif new:
                sys.stdout.write(shown_text(new) if safe else new)
                sys.stdout.flush()
    except KeyboardInterrupt:
        answer.end(time.monotonic(), given_up=True)
        raise
    finally:
        stream.close()
        if not as_json and answer.text and not answer.text.endswith("\n"):
            sys.stdout.write("\n")
            sys.stdout.flush()
    answer.end(time.monotonic())
    if as_json:
        print_json_line({"type": "answer", **dataclasses.asdict(answer), "ttft_ms": answer.ttft_ms, "total_ms": answer.total_ms,
                         "tokens_per_second": answer.tokens_per_second})  # fmt: skip
    return answer


def told(answer: ChatAnswer) -> str:
    """The line after an answer: figures, and the id that feedback names."""
    return "  ".join(part for part in (answer.figures(), answer.request_id) if part)


class Conversation:
    """Questions from the terminal, one after the other, each with what was said before."""

    def __init__(self, serving: ServingCalls, name: str, system: str, fields: dict[str, Any], quiet: bool) -> None:
        self._serving, self._name, self._fields, self._quiet = serving, name, fields, quiet
        self._system = system
        self._messages = opening(system)
        self._last: ChatAnswer | None = None

    def hold(self) -> int:
        """Until the user leaves."""
        import contextlib

        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # input() then has a line that can be edited, and what was typed before
        say(f"{self._name}: type a question; /help says what else; Ctrl-D leaves")
        while True:
            try:
                line = input("> ").strip()
            except EOFError:
                say("")
                return 0
            except KeyboardInterrupt:
                say("")
                continue
            if line in ("/quit", "/exit"):
                return 0
            if line:
                try:
                    self._take(line)
                except LlmopsError as error:
                    say(f"llmops-tui: {one_line(str(error))}")

    def _take(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        if not word.startswith("/"):
            self._ask(line)
        elif word == "/help":
            say(_WORDS)
        elif word == "/new":
            self._messages = opening(self._system)
        elif word == "/system":
            self._system = rest
            self._messages = opening(rest)
        elif word == "/version":
            self._fields = {key: value for key, value in self._fields.items() if key != "version"} | ({"version": rest} if rest else {})
        elif word in ("/up", "/down"):
            if self._last is None or not self._last.request_id:
                raise UsageError("there is no answer yet", "ask something first")
            say(self._serving.feedback(self._last.request_id, word[1:], comment=rest)["done"])
        else:
            raise UsageError(f"no such word: {word}", "/help lists them; a question does not begin with a slash")

    def _ask(self, question: str) -> None:
        """An answer that is given up or breaks off is not made part of the conversation."""
        asked = [*self._messages, {"role": "user", "content": question}]
        try:
            answer = ask(self._serving, self._name, {**self._fields, "messages": asked})
        except KeyboardInterrupt:
            say("given up; the question is not part of the conversation")
            return
        self._last = answer
        if not self._quiet:
            say(one_line(told(answer)))
        if answer.error:
            raise LlmopsError(answer.error, "ask again: it is not part of the conversation")
        self._messages = [*asked, {"role": "assistant", "content": answer.text}]
