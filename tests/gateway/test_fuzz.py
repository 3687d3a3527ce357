"""Whatever comes in, however it is cut: refused or understood, never a crash, and the same result for the same bytes.

Bounded in examples and time; where CI is set the examples are the same each time, elsewhere new ones are tried.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from llmops_tui.engine.serving.gateway.body import CHAT, COMPLETION, EMBEDDING, Body
from llmops_tui.engine.serving.gateway.config import Limits, parse_config
from llmops_tui.engine.serving.gateway.config_reading import ConfigError
from llmops_tui.engine.serving.gateway.errors import GatewayError, upstream_error
from llmops_tui.engine.serving.gateway.http_request import Bodies, RequestReader
from llmops_tui.engine.serving.gateway.providers.anthropic import Anthropic
from llmops_tui.engine.serving.gateway.providers.chat import Speech
from llmops_tui.engine.serving.gateway.providers.gemini import Gemini
from llmops_tui.engine.serving.gateway.providers.translating import Splitter
from llmops_tui.engine.serving.gateway.routes import Routes
from llmops_tui.engine.serving.gateway.sse import EventStream
from tests.gateway.fake_backend import FakeBackend
from tests.gateway.running import RunningGateway, chat_body, config, endpoint, key, post, read_all

T = TypeVar("T")
BOUNDED = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "80")),
    deadline=5000,
    derandomize=bool(os.environ.get("CI")),
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
OVER_SOCKETS = settings(BOUNDED, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The bytes in pieces, cut at these places (each modulo the length)."""
    at = sorted({place % (len(data) + 1) for place in places})
    return [data[begin:end] for begin, end in zip([0, *at], [*at, len(data)], strict=True) if begin < end]


def or_refusal(make: Callable[[], T]) -> T | GatewayError | ConfigError:
    """What is made, or the refusal; anything else that is raised is a failure."""
    try:
        return make()
    except (GatewayError, ConfigError) as refusal:
        return refusal


PLACES = st.lists(st.integers(0, 1 << 16), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 70), 1 << 70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)

# HTTP

HEADER_LINES = st.sampled_from(
    [
        b"Host: localhost\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 0\r\n",
        b"content-length: 05\r\n",
        b"Content-Length: -1\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Connection: close\r\n",
        b"Connection: keep-alive\r\n",
        b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
        b"Expect: 100-continue\r\n",
        b"Authorization: Bearer x\r\n",
        b"X: y\r\n z\r\n",
        b"X: \0\r\n",
        b"X : y\r\n",
        b": y\r\n",
        b"X: y\n",
        b"Trailer: X\r\n",
        b"X-Session-Id: \xff\r\n",
    ]
)
HEADS = st.builds(
    lambda line, headers, end: line + b"".join(headers) + end,
    st.sampled_from(
        [
            b"POST /v1/chat/completions HTTP/1.1\r\n",
            b"GET /health HTTP/1.1\r\n",
            b"GET / HTTP/1.0\r\n",
            b"HEAD / HTTP/1.1\r\n",
            b"CONNECT a:1 HTTP/1.1\r\n",
            b"POST * HTTP/1.1\r\n",
            b"GET http://a/b?c HTTP/1.1\r\n",
            b"\r\nGET / HTTP/1.1\r\n",
            b"GET /\xff HTTP/1.1\r\n",
        ]
    ),
    st.lists(HEADER_LINES, max_size=4),
    st.sampled_from([b"\r\n", b"\n", b""]),
)
BODIES = st.sampled_from([b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"0\r\n\r\n", b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n", b"g\r\n", b"{}"])
REQUESTS = st.lists(st.builds(lambda head, body, noise: head + body + noise, HEADS, BODIES, st.binary(max_size=6)), max_size=4).map(
    b"".join
)


def requests_of(pieces: list[bytes]) -> list[tuple[Any, ...]]:
    bodies = Bodies()
    reader = RequestReader(Limits(body_bytes=64, header_bytes=4096), bodies)
    for piece in pieces:
        if reader.broken:
            break
        again = reader.again(piece)
        if again is not None:
            reader.ready.append(again)
        else:
            reader.feed(piece)
    reader.release()
    assert bodies.held == 0
    return [
        (request.error.status,)
        if request.error
        else (request.method, request.target, request.body, request.keep_alive, request.authorization)
        for request in reader.ready
    ]


AGAIN = st.tuples(
    st.sampled_from([b"", b"Host: localhost\r\n", b"Authorization: Bearer x\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n"]),
    st.sampled_from([b"Content-Length: ", b"content-length:", b"Content-Length: 0", b"Content-Lengths: "]),
    st.sampled_from([b"\r\n", b" \r\n", b"\r\nX: y\r\n", b"\r\nTransfer-Encoding: chunked\r\n", b"\r\nContent-Length: 5\r\n", b"\n"]),
)
PLAIN_HEAD = (b"Host: localhost\r\n", b"Content-Length: ", b"\r\n")
SAID_LENGTH = st.sampled_from([b"%d"] * 8 + [b"0%d", b"%d0", b"-%d", b"+%d", b"%dx", b"99999999999999999999%d"])
SENT = st.sampled_from([b"", b"hello", b"0123456789", b"x" * 64, b"x" * 65, b"GET / HTTP/1.1\r\n\r\n"])


@BOUNDED
@given(AGAIN | st.just(PLAIN_HEAD), st.lists(st.tuples(SENT, SAID_LENGTH, st.sampled_from([0, 0, 0, 0, 0, 1, -1])), max_size=8))
def test_a_head_that_comes_again_is_the_request_that_a_parser_makes_of_it(
    head: tuple[bytes, bytes, bytes], sent: list[tuple[bytes, bytes, int]]
) -> None:
    first, name, rest = head
    requests = [
        b"POST / HTTP/1.1\r\n" + first + name + said.replace(b"%d", b"%d" % max(0, len(body) + off)) + rest + b"\r\n" + body
        for body, said, off in sent
    ]
    data = b"".join(requests)
    assert requests_of(requests) == requests_of([data[at : at + 1] for at in range(len(data))])


@BOUNDED
@given(REQUESTS | st.binary(max_size=200), PLACES)
@example(b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n", [3, 60])
@example(b"POST / HTTP/1.1\r\nUpgrade: a\r\nConnection: upgrade\r\nContent-Length: 5\r\n\r\nhello", [70])
def test_bytes_are_the_same_requests_however_they_are_cut(data: bytes, places: list[int]) -> None:
    whole = requests_of([data])
    assert requests_of(cut(data, places)) == whole
    assert requests_of([data[at : at + 1] for at in range(len(data))]) == whole
    for request in whole[:-1]:
        assert len(request) > 1, "nothing is read behind a refusal"
    assert all(len(request[2]) <= 64 for request in whole if len(request) > 1)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    backend = FakeBackend()
    gateway = RunningGateway(
        tmp_path_factory.mktemp("fuzzed"),
        config({"r1": backend}, limits={"body_bytes": 5000, "header_seconds": 0.2, "keepalive_seconds": 0.2, "request_seconds": 2}),
    )
    yield gateway
    gateway.close()
    backend.close()


@OVER_SOCKETS
@given(data=REQUESTS | st.binary(max_size=300), places=PLACES)
def test_a_gateway_that_was_sent_anything_answers_the_next_request(fuzzed: RunningGateway, data: bytes, places: list[int]) -> None:
    with fuzzed.connect() as connection:
        try:
            for piece in cut(data, places):
                connection.sendall(piece)
        except OSError:
            pass  # it had seen enough
        answer = read_all(connection)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    assert fuzzed.chat().status == 200
    assert fuzzed.status()["in_flight"] == 0


@OVER_SOCKETS
@given(
    fields=st.dictionaries(
        st.sampled_from(["stream", "n", "stop", "tools", "user", "stream_options", "temperature", "x"]), JSON, max_size=4
    )
)
def test_a_body_of_anything_gets_an_answer_in_openais_shape(fuzzed: RunningGateway, fields: dict[str, Any]) -> None:
    answer = fuzzed.raw(post({**chat_body(), **fields}, extra="Connection: close\r\n"))
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    assert status in (200, 400)
    if status == 400:
        assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
    else:
        assert b"hello" in body or b"[DONE]" in body


# Bodies

BODY_FIELDS = st.sampled_from(
    [
        "messages",
        "prompt",
        "input",
        "stream",
        "stream_options",
        "max_tokens",
        "n",
        "temperature",
        "top_p",
        "stop",
        "tools",
        "tool_choice",
        "user",
        "response_format",
        "logprobs",
        "best_of",
        "top_k",
        "seed",
        "parallel_tool_calls",
        "dimensions",
        "encoding_format",
        "functions",
    ]
)
TEXTS = st.text(max_size=10)
PARTS = st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS})
    | st.fixed_dictionaries(
        {
            "type": st.just("image_url"),
            "image_url": st.fixed_dictionaries({"url": st.sampled_from(["", "data:image/png;base64,aa", "https://a/b.png", "data:x"])}),
        }
    )
    | JSON,
    max_size=3,
)
CALLS = st.lists(
    st.fixed_dictionaries(
        {
            "id": TEXTS,
            "type": st.just("function"),
            "function": st.fixed_dictionaries({"name": TEXTS, "arguments": TEXTS | st.sampled_from(["{}", '{"a":1}', "["])}),
        }
    )
    | JSON,
    max_size=2,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "function"])},
        optional={"content": TEXTS | PARTS | JSON, "tool_calls": CALLS | JSON, "tool_call_id": TEXTS | JSON},
    ),
    max_size=4,
)
TOOLS = st.lists(
    st.fixed_dictionaries(
        {
            "type": st.just("function"),
            "function": st.fixed_dictionaries({"name": TEXTS}, optional={"parameters": JSON, "description": JSON}),
        }
    )
    | JSON,
    max_size=2,
)
BODY = st.builds(
    lambda fields, more: {"model": "m", **fields, **more},
    st.dictionaries(BODY_FIELDS, JSON, max_size=4),
    st.fixed_dictionaries(
        {"messages": MESSAGES, "prompt": TEXTS | JSON, "input": TEXTS | st.lists(TEXTS, max_size=2)},
        optional={"tools": TOOLS, "stream": st.booleans()},
    ),
)
KINDS = st.sampled_from([CHAT, COMPLETION, EMBEDDING])


def encoded(value: object) -> bytes:
    return json.dumps(value).encode()


@BOUNDED
@given(KINDS, st.binary(max_size=60) | JSON.map(encoded) | BODY.map(encoded))
def test_a_body_is_understood_or_refused_and_goes_on_but_for_its_model(kind: bytes, raw: bytes) -> None:
    body = or_refusal(lambda: Body(kind, raw))
    if isinstance(body, GatewayError):
        assert body.status == 400
        assert set(orjson.loads(body.body())["error"]) == {"message", "type", "param", "code"}
        return
    sent = orjson.loads(body.for_upstream("other"))
    asked = orjson.loads(raw)
    assert sent.pop("model") == "other"
    asked.pop("model")
    if body.stream:
        assert sent.pop("stream_options")["include_usage"] is True
        asked.pop("stream_options", None)
    assert sent == asked
    assert body.estimated_tokens >= body.prompt_tokens >= 1


@BOUNDED
@given(st.sampled_from([Anthropic(), Gemini()]), KINDS, BODY)
def test_a_body_is_translated_for_a_provider_or_refused(speech: Speech, kind: bytes, fields: dict[str, Any]) -> None:
    asked = or_refusal(lambda: speech.ask(Body(kind, encoded(fields)), "big 1/x"))
    if isinstance(asked, GatewayError):
        assert asked.status == 400
        return
    target, payload = asked
    assert target.startswith("/")
    assert " " not in target
    assert isinstance(orjson.loads(payload), dict)


# Providers' answers

NAMES = st.sampled_from(
    [
        "content",
        "type",
        "text",
        "name",
        "input",
        "id",
        "usage",
        "index",
        "delta",
        "message",
        "error",
        "stop_reason",
        "candidates",
        "parts",
        "functionCall",
        "args",
        "finishReason",
        "usageMetadata",
        "promptFeedback",
        "blockReason",
        "input_tokens",
        "output_tokens",
        "promptTokenCount",
        "content_block",
        "partial_json",
        "embeddings",
        "values",
        "responseId",
    ]
)
WORDS = st.sampled_from(
    [
        "text",
        "tool_use",
        "message_start",
        "content_block_start",
        "content_block_delta",
        "message_delta",
        "message_stop",
        "text_delta",
        "input_json_delta",
        "end_turn",
        "STOP",
        "SAFETY",
        "error",
        "ping",
        "{}",
    ]
)
SAID = st.dictionaries(
    NAMES,
    st.recursive(JSON | WORDS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=8),
    max_size=5,
)
MESSAGE = Body(CHAT, encoded(chat_body(stream=True)))


@BOUNDED
@given(st.sampled_from([Anthropic(), Gemini()]), SAID, KINDS)
def test_whatever_a_provider_answers_is_translated_or_refused(speech: Speech, said: dict[str, Any], kind: bytes) -> None:
    body = Body(kind, encoded({**chat_body(), "prompt": "x", "input": "x"}))
    whole = or_refusal(lambda: speech.whole(body, "big", orjson.loads(encoded(said))))
    if isinstance(whole, GatewayError):
        assert whole.status == 502
        return
    answer = orjson.loads(whole)
    assert isinstance(answer["choices" if "choices" in answer else "data"], list)


@BOUNDED
@given(st.sampled_from([Anthropic(), Gemini()]), st.lists(SAID, max_size=6))
def test_whatever_a_provider_streams_becomes_events_that_can_be_read(speech: Speech, events: list[dict[str, Any]]) -> None:
    telling = speech.telling(MESSAGE, "big")
    said = b"".join([*(telling.take(orjson.loads(encoded(event))) for event in events), telling.end()])
    assert said.count(b"data: [DONE]") <= 1
    for event in said.split(b"\n\n")[:-1]:
        assert event == b"data: [DONE]" or {"choices", "error"} & set(orjson.loads(event.removeprefix(b"data: ")))
    EventStream(False, True).take(said, 0.0)


@BOUNDED
@given(st.integers(400, 599), st.binary(max_size=60) | JSON.map(encoded) | SAID.map(encoded))
def test_whatever_a_server_says_of_an_error_comes_in_openais_shape(status: int, raw: bytes) -> None:
    body, message, _ = upstream_error(status, raw)
    error = orjson.loads(body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"] == message != ""


# Streams

DELTAS = st.sampled_from(["content", "reasoning_content", "text"])
EVENT = st.builds(
    lambda name, text, finish, ascii_only, spaced: (
        b"data: "
        + json.dumps(
            {
                "id": "c",
                "choices": [{"index": 0, **({"text": text} if name == "text" else {"delta": {name: text}}), "finish_reason": finish}],
            },
            ensure_ascii=ascii_only,
            separators=None if spaced else (",", ":"),
        ).encode()
        + b"\n\n"
    ),
    DELTAS,
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    st.sampled_from([None, None, None, "stop", "length"]),
    st.booleans(),
    st.booleans(),
)
OTHER_EVENTS = st.sampled_from(
    [
        b": comment\n\n",
        b"\n\n",
        b"event: x\ndata: {}\n\n",
        b"id: 5\n\n",
        b"data: nonsense\n\n",
        b'data: {"choices":[],"usage":{"prompt_tokens":3}}\n\n',
        b'data: {"choices":[{"index":1,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\\"a"}}]}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"both","reasoning_content":"said"}}]}\n\n',
        b'data: {"error":{"message":"bad"}}\n\n',
        b'error: {"message":"worse"}\n\n',
        b'data: {"choices":\ndata: [],"usage":{"prompt_tokens":4}}\n\n',
    ]
)
PLAIN = st.builds(
    lambda texts, before: b"".join(
        b'data: {"choices":[{"index":0,"delta":{"content":' + json.dumps(text).encode() + b"}}" + before + b"]}\n\n" for text in texts
    ),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=8),
    st.sampled_from([b"", b',{"index":1,"delta":{"content":"x"}}', b',{"index":1,"text":"\\"content\\":\\"y\\""}']),
)
STREAM = st.lists(EVENT | OTHER_EVENTS | PLAIN, max_size=12).map(b"".join)


def read(pieces: list[bytes], strip: bool, together: bool = False) -> tuple[Any, ...]:
    """What a stream of these pieces is, one after another or `together`, as a server wrote them at once."""
    stream = EventStream(strip_usage=strip, keep_text=True)
    takes = [(b"".join(pieces), pieces)] if together else [(piece, []) for piece in pieces]
    out = b"".join(stream.take(data, float(number), written) for number, (data, written) in enumerate(takes))
    assert stream.text is not None
    return (out, b"".join(stream.text), stream.response_hash(), stream.chunks, stream.finish, stream.usage, stream.error, stream.done)


@BOUNDED
@given(STREAM, st.booleans(), st.booleans(), st.booleans(), PLACES)
def test_a_stream_is_read_the_same_however_it_is_cut(stream: bytes, done: bool, carriage: bool, strip: bool, places: list[int]) -> None:
    raw = stream + (b"data: [DONE]\n\n" if done else b"")
    raw = raw.replace(b"\n", b"\r\n") if carriage else raw
    whole = read([raw], strip)
    assert read(cut(raw, places), strip) == whole
    assert read([raw[at : at + 1] for at in range(len(raw))], strip) == whole
    assert read(cut(raw, places), strip, together=True) == whole
    if not carriage:
        assert read([event + b"\n\n" for event in raw.split(b"\n\n")[:-1]], strip, together=True) == whole
    assert whole[-1] is done
    if not strip:
        assert whole[0] == raw.replace(b"\r\n", b"\n")


@BOUNDED
@given(
    st.lists(st.sampled_from(["a", "b", "ü", "\n", '"', "\\", ""]), min_size=2, max_size=40),
    st.lists(OTHER_EVENTS | EVENT, max_size=2),
    st.booleans(),
)
def test_a_burst_is_read_the_same_as_event_by_event(texts: list[str], others: list[bytes], ascii_only: bool) -> None:
    written = [
        b'data: {"choices":[{"index":0,"delta":{"content":' + json.dumps(text, ensure_ascii=ascii_only).encode() + b"}}]}\n\n"
        for text in texts
    ]
    events = [*written[:7], *others[:1], *written[7:], *others[1:]]
    singly = read(events, True)
    assert read(events, True, together=True) == singly
    assert read([b"".join(events)], True) == singly


@BOUNDED
@given(st.binary(max_size=300), PLACES)
def test_what_is_no_stream_is_read_without_a_crash_however_it_is_cut(raw: bytes, places: list[int]) -> None:
    read([raw], True)
    read(cut(raw, places), True)


@BOUNDED
@given(st.lists(SAID, max_size=6), st.sampled_from([b"\n", b"\r\n", b"\r"]), PLACES)
def test_a_providers_events_are_the_same_however_they_are_cut(events: list[dict[str, Any]], line: bytes, places: list[int]) -> None:
    raw = b"".join(b"event: x" + line + b"data: " + encoded(event) + line + b": comment" + line + line for event in events)
    raw += b"data: {}" + line  # the rest of a next one, which also ends a bare carriage return
    splitter = Splitter()
    found = [event for piece in cut(raw, places) for event in splitter.take(piece)]
    assert found == [orjson.loads(encoded(event)) for event in events]


# Configurations

GOOD = config(
    {},
    {"m": endpoint("r1", aliases=["a"], mirror=[{"version": "v1", "fraction": 0.5}], fallbacks=["n"]), "n": endpoint()},
    keys=[key("a")],
    replicas={"r1": {"host": "h", "port": 1, "adapters": {"a": "b"}}},
    providers={"p": {"api": "gemini", "base_url": "http://h/v1", "model": "x"}},
    redactors=[{"pattern": "a+", "replacement": "b"}],
    limits={"body_bytes": 10},
)


def places_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield from places_in(inner, (*path, name))


def changed(path: tuple[Any, ...], value: Any) -> Any:
    whole = copy.deepcopy(GOOD)
    if not path:
        return value
    at: Any = whole
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return whole


CHANGED = st.builds(
    changed, st.sampled_from(list(places_in(GOOD))), JSON | st.sampled_from(["r1", "v1", "http://[::1]/", "http://a:b@c", "*", 0, 1])
)


@BOUNDED
@given(st.binary(max_size=40) | JSON.map(encoded) | CHANGED.map(encoded))
def test_a_configuration_is_taken_whole_or_refused_in_one_line(raw: bytes) -> None:
    loop = asyncio.new_event_loop()
    try:
        routes = Routes()
        routes.take(parse_config(json.dumps(GOOD).encode()), loop)
        taken = or_refusal(lambda: parse_config(raw))
        if isinstance(taken, ConfigError):
            assert str(taken)
            assert "\n" not in str(taken)
            return
        routes.take(taken, loop)
        assert set(routes.endpoints) == set(taken.endpoints)
    finally:
        loop.close()
