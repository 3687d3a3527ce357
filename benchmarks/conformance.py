"""What a real client finds: the `openai` package and curl against our gateway, line by line beside the bare llama.cpp server.

Each line is one thing OpenAI's API promises. `yes`: it does; `no`: it does not, with what came instead. The engine behind the gateway is
the same server with the same model, so a line that the bare server passes must pass through the gateway too; errors, models and headers
are the gateway's own. Bar: every line passes through the gateway that passes without it, and all that the gateway answers for itself.

    python benchmarks/conformance.py [--quick] [--gguf FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import openai
from serving_rig import bare_llamacpp, model_files, served

MODEL = "smol"
HELLO = [{"role": "user", "content": "Say hello and nothing else."}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather", "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}  # fmt: skip


@dataclass
class Front:
    """A server to ask."""

    port: int
    client: openai.OpenAI

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def curl(self, path: str, body: object | None = None, *options: str) -> tuple[int, str, str]:
        """Status, headers and body."""
        words = ["curl", "-sS", "-m", "60", "-i", *options, f"http://127.0.0.1:{self.port}{path}"]
        if body is not None:
            words += ["-H", "content-type: application/json", "-d", body if isinstance(body, str) else json.dumps(body)]
        raw = subprocess.run(words, capture_output=True, check=True).stdout.decode(errors="replace")
        head, _, text = raw.replace("\r\n", "\n").partition("\n\n")
        while head.startswith("HTTP/1.1 100"):
            head, _, text = text.partition("\n\n")
        return int(head.split()[1]), head.lower(), text


@dataclass
class Check:
    """`own`: the gateway's own doing, whatever the server behind it does. `ask` returns what was seen, or raises AssertionError."""

    name: str
    ask: Callable[[Front], object]
    own: bool = False


def chat(front: Front, **more: object) -> object:
    return front.client.chat.completions.create(model=MODEL, messages=HELLO, **{"max_tokens": 12, "temperature": 0, **more})


def plain(front: Front) -> object:
    answer = chat(front)
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length")
    return answer.choices[0].message.content


def usage(front: Front) -> object:
    answer = chat(front)
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    return answer.usage.total_tokens


def streaming(front: Front) -> object:
    chunks = list(chat(front, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == chat(front).choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] in ("stop", "length")
    assert len({chunk.id for chunk in chunks}) == 1
    return len(chunks)


def streamed_usage(front: Front) -> object:
    last = list(chat(front, stream=True, stream_options={"include_usage": True}))[-1]
    assert last.choices == []
    assert last.usage.completion_tokens > 0
    return last.usage.completion_tokens


def no_usage_unasked(front: Front) -> object:
    assert not any(chunk.usage for chunk in chat(front, stream=True))
    return "none"


def length(front: Front) -> object:
    answer = chat(front, max_tokens=3)
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 3)
    return 3


def completion_tokens(front: Front) -> object:
    answer = chat(front, max_tokens=openai.NOT_GIVEN, max_completion_tokens=3)
    assert answer.usage.completion_tokens == 3
    return 3


def stop(front: Front) -> object:
    whole = chat(front, max_tokens=24).choices[0].message.content
    word = whole.split()[1]
    cut = chat(front, max_tokens=24, stop=[word])
    assert word not in cut.choices[0].message.content
    assert cut.choices[0].finish_reason == "stop"
    return f"before {word!r}"


def several(front: Front) -> object:
    answer = chat(front, n=3, temperature=1.0, seed=1)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    return len(answer.choices)


def several_streamed(front: Front) -> object:
    seen = {choice.index for chunk in chat(front, n=2, stream=True) for choice in chunk.choices}
    assert seen == {0, 1}, seen
    return len(seen)


def logprobs(front: Front) -> object:
    first = chat(front, logprobs=True, top_logprobs=3).choices[0].logprobs.content[0]
    assert len(first.top_logprobs) == 3
    assert first.logprob <= 0
    return round(first.logprob, 3)


def seeded(front: Front) -> object:
    one, other = (chat(front, temperature=1.0, seed=7).choices[0].message.content for _ in range(2))
    assert one == other
    return "the same twice"


def greedy(front: Front) -> object:
    assert chat(front).choices[0].message.content == chat(front).choices[0].message.content
    return "the same twice"


def system(front: Front) -> object:
    messages = [{"role": "system", "content": "You are a pirate."}, *HELLO, {"role": "assistant", "content": "Hello."}, *HELLO]
    answer = front.client.chat.completions.create(model=MODEL, messages=messages, max_tokens=8)
    assert answer.usage.prompt_tokens > chat(front).usage.prompt_tokens
    return answer.usage.prompt_tokens


def parts(front: Front) -> object:
    messages = [{"role": "user", "content": [{"type": "text", "text": "Say hello and nothing else."}]}]
    answer = front.client.chat.completions.create(model=MODEL, messages=messages, max_tokens=12, temperature=0)
    assert answer.choices[0].message.content
    return "text"


def as_json(front: Front) -> object:
    schema = {"type": "object", "properties": {"greeting": {"type": "string", "maxLength": 20}}, "required": ["greeting"]}
    form = {"type": "json_schema", "json_schema": {"name": "greeting", "schema": schema, "strict": True}}
    value = json.loads(chat(front, max_tokens=60, response_format=form).choices[0].message.content)
    assert isinstance(value["greeting"], str)
    return value


def tools(front: Front) -> object:
    answer = chat(front, max_tokens=80, tools=[TOOL], tool_choice="required")
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "weather"
    assert "city" in json.loads(call.function.arguments)
    assert answer.choices[0].finish_reason == "tool_calls"
    return call.function.arguments


def completion(front: Front) -> object:
    answer = front.client.completions.create(model=MODEL, prompt="The capital of France is", max_tokens=4, temperature=0)
    assert answer.object == "text_completion"
    assert answer.choices[0].text
    return answer.choices[0].text


def completion_streamed(front: Front) -> object:
    chunks = list(front.client.completions.create(model=MODEL, prompt="One, two,", max_tokens=4, temperature=0, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
    return len(chunks)


def embeddings(front: Front) -> object:
    found = front.client.embeddings.create(model=MODEL, input=["a", "b"])
    assert len(found.data) == 2
    return len(found.data[0].embedding)


def models(front: Front) -> object:
    names = [model.id for model in front.client.models.list()]
    assert MODEL in names
    return names


def one_model(front: Front) -> object:
    assert front.client.models.retrieve(MODEL).id == MODEL
    return MODEL


def refused(kind: type[openai.APIStatusError], **more: object) -> Callable[[Front], object]:
    """The package's own exception, with all of `error` that it takes out."""

    def ask(front: Front) -> object:
        body = error_of(kind, lambda: chat(front, **more))
        assert {"message", "type", "param", "code"} <= set(body)
        return body["code"]

    return ask


def error_of(kind: type[openai.APIStatusError], ask: Callable[[], object]) -> dict[str, object]:
    try:
        ask()
    except kind as error:
        return dict(error.body)  # type: ignore[call-overload]
    raise AssertionError("it was answered")


def unknown_model(front: Front) -> object:
    body = error_of(openai.NotFoundError, lambda: front.client.chat.completions.create(model="no-such-model", messages=HELLO))
    assert body["code"] == "model_not_found"
    return body["code"]


def too_long(front: Front) -> object:
    messages = [{"role": "user", "content": "word " * 4000}]
    body = error_of(openai.BadRequestError, lambda: front.client.chat.completions.create(model=MODEL, messages=messages, max_tokens=4))
    return body.get("code") or body.get("type")


def broken_json(front: Front) -> object:
    status, head, text = front.curl("/v1/chat/completions", '{"model": ')
    assert status == 400
    assert "application/json" in head
    error = json.loads(text)["error"]
    assert error["type"] == "invalid_request_error"
    return error["code"]


def no_such_path(front: Front) -> object:
    status, _, text = front.curl("/v1/nothing")
    assert status == 404
    return json.loads(text)["error"]["message"]


def wrong_method(front: Front) -> object:
    status, head, _ = front.curl("/v1/chat/completions")
    assert status == 405
    assert "allow: post" in head
    return status


def request_id(front: Front) -> object:
    answer = front.client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO, max_tokens=2)
    found = answer.headers.get("x-request-id")
    assert found
    return found


def curl_stream(front: Front) -> object:
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 4, "stream": True}
    status, head, text = front.curl("/v1/chat/completions", body, "-N")
    assert status == 200
    assert "text/event-stream" in head
    assert text.rstrip().endswith("data: [DONE]")
    return text.count("data: ")


def curl_two_on_one_connection(front: Front) -> object:
    body = json.dumps({"model": MODEL, "messages": HELLO, "max_tokens": 2})
    one = ["-H", "content-type: application/json", "-d", body, "-o", "/dev/null", "-w", "%{http_code} %{num_connects}\n"]
    url = f"{front.url}/chat/completions"
    raw = subprocess.run(["curl", "-sS", "-m", "60", *one, url, "--next", "-sS", "-m", "60", *one, url], capture_output=True, check=True)
    lines = raw.stdout.decode().split("\n")
    assert lines[:2] == ["200 1", "200 0"], lines
    return "one connection"


def left_early(front: Front) -> object:
    """A client that goes in the middle of a stream leaves a server that answers the next one."""
    with chat(front, stream=True, max_tokens=200) as stream:
        next(iter(stream))
    return plain(front)


CHECKS = [
    Check("chat completion", plain),
    Check("usage adds up", usage),
    Check("streaming says the same", streaming),
    Check("usage at the end of a stream when asked", streamed_usage),
    Check("no usage in a stream unasked", no_usage_unasked, own=True),
    Check("max_tokens", length),
    Check("max_completion_tokens", completion_tokens),
    Check("stop", stop),
    Check("n", several),
    Check("n, streamed", several_streamed),
    Check("logprobs", logprobs),
    Check("seed", seeded),
    Check("temperature 0 is greedy", greedy),
    Check("system prompt and turns", system),
    Check("content in parts", parts),
    Check("response_format: json_schema", as_json),
    Check("tools", tools),
    Check("completions", completion),
    Check("completions, streamed", completion_streamed),
    Check("embeddings", embeddings),
    Check("models", models),
    Check("models, one", one_model, own=True),
    Check("x-request-id", request_id, own=True),
    Check("error: unknown model", unknown_model, own=True),
    Check("error: temperature", refused(openai.BadRequestError, temperature=-1), own=True),
    Check("error: n", refused(openai.BadRequestError, n=0), own=True),
    Check("error: messages", refused(openai.BadRequestError, extra_body={"messages": []}), own=True),
    Check("error: stream", refused(openai.BadRequestError, extra_body={"stream": "yes"}), own=True),
    Check("error: longer than the context", too_long),
    Check("curl: broken JSON", broken_json, own=True),
    Check("curl: no such path", no_such_path, own=True),
    Check("curl: wrong method", wrong_method, own=True),
    Check("curl: a stream ends with [DONE]", curl_stream),
    Check("curl: two requests on one connection", curl_two_on_one_connection, own=True),
    Check("a client that leaves harms nobody", left_early),
]


def outcome(check: Check, front: Front) -> tuple[bool, str]:
    try:
        return True, str(check.ask(front))
    except Exception as error:  # noqa: BLE001 - whatever came instead is the answer
        return False, f"{type(error).__name__}: {error}".strip(": ")


def main() -> int:
    """Exit code 0 only where the bar holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the same: the list is short")
    parser.add_argument("--gguf", default="", help="the model as GGUF; fetched where left out")
    options = parser.parse_args()
    gguf, _ = model_files(options.gguf, ".")
    with served() as rig, bare_llamacpp(gguf, 4, 1024, 1, name=MODEL) as (bare_port, _), contextlib.ExitStack() as stack:
        rig.start(MODEL, [{"model": str(gguf), "serve": {"slots": 4, "context": 1024, "threads": 1}}])
        ours, bare = (
            Front(
                port, stack.enter_context(openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=120))
            )
            for port in (rig.port, bare_port)
        )
        passed, peer, needed, missed = 0, 0, 0, []
        print(f"{'':44} {'gateway':8} {'bare':5} what the gateway said")
        for check in CHECKS:
            (good, said), (other, _) = outcome(check, ours), outcome(check, bare)
            wanted = check.own or other
            passed, peer, needed = passed + good, peer + other, needed + wanted
            if wanted and not good:
                missed.append(check.name)
            print(f"{check.name:44} {'yes' if good else 'no':8} {'yes' if other else 'no':5} {' '.join(said.split())[:80]}", flush=True)
    print(f"{passed} of {len(CHECKS)} through the gateway, {peer} without it" + (f"; missed: {', '.join(missed)}" if missed else ""))
    result = {
        "benchmark": "conformance", "ours": passed, "peer": peer, "ratio": round(passed / peer, 2) if peer else None, "bar": needed,
        "holds": not missed,
    }  # fmt: skip
    print(json.dumps(result))
    return 0 if not missed else 1


if __name__ == "__main__":
    sys.exit(main())
