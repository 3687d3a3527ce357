"""What the commands of serving make of a line, and what they print of an answer; no engine is started here."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from llmops_tui.cli import parse, run_cli
from llmops_tui.commands.endpoints import facts_of, servers_text, shares, version_row
from llmops_tui.commands.endpoints_chat import request_fields
from llmops_tui.commands.endpoints_keys import gateway_facts, limits_text
from llmops_tui.commands.endpoints_latency import live_rows, load_rows, quantiles
from llmops_tui.commands.endpoints_route import named_once
from llmops_tui.commands.endpoints_start import default_name, endpoint_spec
from llmops_tui.commands.endpoints_wait import outcome, progress, settle
from llmops_tui.commands.runtimes import verdict
from llmops_tui.errors import LlmopsError, UsageError
from llmops_tui.specs import serving_words
from llmops_tui.specs.answers_requests import EndpointLive, EngineLoad, RuntimeInfo, VersionLive
from llmops_tui.specs.answers_serving import EndpointDetail, EndpointSummary, GatewayInfo, KeyInfo, Pending, ReplicaState, VersionState
from llmops_tui.specs.endpoint import EndpointSpec
from llmops_tui.specs.serve import RUNTIMES, ServeSpec


def version(name: str, **changes: Any) -> VersionState:
    made = VersionState(
        name=name, model=f"support@{name}", provider="", adapter_of="", weight=100.0, share=1.0, mirror=0.0, target_weight=None,
        replicas=1, ready=1, state="ready", reason="", warm_until=None, in_flight=0, requests=7, errors=1,
    )  # fmt: skip
    return {**made, **changes}  # type: ignore[typeddict-item]


def server(run: str, **changes: Any) -> ReplicaState:
    made = ReplicaState(
        run=run, version="v1", state="ready", host="127.0.0.1", port=9001, runtime="llamacpp", context=2048, slots=4, adapters=[],
        healthy=True, breaker="closed", outstanding=0, cause="", started_at=1.0,
    )  # fmt: skip
    return {**made, **changes}  # type: ignore[typeddict-item]


def summary(**changes: Any) -> EndpointSummary:
    made = EndpointSummary(
        name="support", aliases=[], state="ready", reason="", url="http://127.0.0.1:8700/v1", curl="curl …", versions=[version("v1")],
        replicas=[server("serve-support-0001")], sticky="none", balance="least_tokens", fallbacks=[], pinned=False, on_demand=False,
        idle_unload_seconds=0.0, last_used=None, pending=None, previous=None, owner="ada", revision=1, created_at=1.0,
    )  # fmt: skip
    return {**made, **changes}  # type: ignore[typeddict-item]


def test_the_words_offered_are_those_of_the_specs() -> None:
    choices = {name: get_args(field.annotation) for name, field in EndpointSpec.model_fields.items()}
    assert choices["sticky"] == serving_words.STICKY
    assert choices["balance"] == serving_words.BALANCE
    assert get_args(ServeSpec.model_fields["runtime"].annotation) == serving_words.SERVING_RUNTIMES == ("auto", *RUNTIMES)


@pytest.mark.parametrize(
    ("line", "spec"),
    [
        ("support@v3", {"name": "support", "versions": [{"model": "support@v3"}]}),
        ("./a/Model.Q4_K_M.gguf", {"name": "model.q4_k_m", "versions": [{"model": "./a/Model.Q4_K_M.gguf"}]}),
        ("--provider far --name gpt", {"name": "gpt", "versions": [{"provider": "far"}]}),
        (
            "m --context 512 --slots 2 --runtime llamacpp --gpus 0 --set serve.dtype=float32",
            {
                "name": "m",
                "versions": [
                    {
                        "model": "m",
                        "serve": {"dtype": "float32", "runtime": "llamacpp", "context": 512, "slots": 2, "resources": {"gpus": 0}},
                    }
                ],
            },
        ),
        (
            "m --on-demand --idle-unload 15m --pin --keep-text 0.5 --alias a --alias b --set slo.ttft_ms=300 --replicas 2",
            {
                "name": "m", "versions": [{"model": "m", "replicas": 2}], "aliases": ["a", "b"], "on_demand": True, "pinned": True,
                "idle_unload_seconds": 900.0, "slo": {"ttft_ms": 300}, "record": {"text_fraction": 0.5},
            },
        ),
    ],
)  # fmt: skip
def test_start_makes_the_spec_the_options_say(line: str, spec: dict[str, Any]) -> None:
    assert endpoint_spec(parse(["endpoints", "start", *line.split()])) == spec


def test_options_go_over_a_file_and_the_file_keeps_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "endpoint.yaml"
    file.write_text("name: chat\nsticky: key\nversions:\n- model: m@v1\n  serve: {context: 256, slots: 1}\n")
    spec = endpoint_spec(parse(["endpoints", "start", "-f", str(file), "--slots", "4", "m@v2"]))
    assert spec == {"name": "chat", "sticky": "key", "versions": [{"model": "m@v2", "serve": {"context": 256, "slots": 4}}]}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "nothing to serve"),
        ("m --provider far", "a model and a provider are named"),
        ("m --set serve.a=7 --set serve.a.b=4", "already has the value 7"),
        ("-f two.yaml m", "names 2 versions, and the command line one more"),
        ("-f two.yaml --context 4", "which one is context for?"),
        ("-f two.yaml --set serve.slots=4", "which one is serve.slots=4 for?"),
        ("-f none.yaml", "no such file"),
        ("m --set record=7 --keep-text 1", "record: must be a mapping"),
    ],
)
def test_what_start_cannot_understand_is_refused_before_anything_is_asked(
    line: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.yaml").write_text("name: x\nversions: [{model: a}, {model: b}]\n")
    assert run_cli(["--home", str(tmp_path / "home"), "endpoints", "start", *line.split()]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    "line",
    [
        "endpoints", "endpoints show", "endpoints route", "endpoints route x", "endpoints route x v1", "endpoints route x v1=-1",
        "endpoints route x v1=nan", "endpoints route x v1=inf", "endpoints route x v1=1 v1=2", "endpoints route x --mirror v1=2",
        "endpoints route x --mirror none --mirror v1=0.1", "endpoints route x --fallback none --fallback y", "endpoints scale x",
        "endpoints route x --sticky forever", "endpoints scale x -1", "endpoints start m --context 0", "endpoints start m --runtime ollama",
        "endpoints start m --idle-unload soon", "endpoints start m --keep-text 2", "endpoints chat x hi --temperature warm",
        "endpoints chat x hi --temperature -1", "endpoints chat x hi --top-p 1.5", "endpoints chat x hi --max-tokens 0",
        "endpoints chat x hi --set messages=[]", "endpoints chat x hi --set model=y", "endpoints feedback req_1",
        "endpoints feedback req_1 sideways", "endpoints keys", "endpoints keys create", "endpoints keys create k --concurrent 0",
        "endpoints version add x", "endpoints version add x m --provider p", "endpoints version add x --provider p --context 5",
        "endpoints version remove x", "endpoints adapter add x polite", "endpoints latency x --points 0",
        "endpoints latency x --until 1h", "endpoints latency x --since 1h --until 2h", "endpoints stop", "runtimes", "runtimes install",
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line_and_exit_code_2(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / "home"))
    assert run_cli(line.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("llmops-tui: ")
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "home").exists()  # no engine was started for it


def test_arguments_that_may_be_left_out_may_follow_options() -> None:
    assert parse(["endpoints", "chat", "x", "--system", "s", "hello"]).prompt == "hello"
    assert parse(["endpoints", "route", "x", "--mirror", "v2=10%", "v1=1", "v2=0"]).weights == [("v1", 1.0), ("v2", 0.0)]
    assert parse(["endpoints", "route", "x", "--mirror", "v2=10%"]).mirror == [("v2", 0.1)]
    assert parse(["endpoints", "feedback", "req_1", "--comment", "c", "up"]).rating == "up"
    assert parse(["endpoints", "feedback", "req_1", "0.5"]).rating == 0.5


def test_a_version_has_one_weight() -> None:
    assert named_once([("v1", 1.0), ("v2", 2.0)], "weight") == {"v1": 1.0, "v2": 2.0}
    with pytest.raises(UsageError, match="v1 is given two weights"):
        named_once([("v1", 1.0), ("v1", 2.0)], "weight")


@pytest.mark.parametrize(("model", "name"), [("support@v3", "support"), ("./x/Big.gguf", "big"), ("train-fiqa-0001", "train-fiqa-0001")])
def test_an_endpoint_is_called_after_its_model(model: str, name: str) -> None:
    assert default_name(model) == name


def test_the_request_of_chat_has_the_options_and_asks_for_usage() -> None:
    args = parse(["endpoints", "chat", "x", "hi", "--version", "v4", "--temperature", "0", "--max-tokens", "8", "--set", "stop=[a, b]"])
    assert request_fields(args) == {
        "version": "v4", "temperature": 0.0, "max_tokens": 8, "stop": ["a", "b"], "stream_options": {"include_usage": True},
    }  # fmt: skip


def test_a_list_tells_route_and_servers() -> None:
    canary = summary(versions=[version("v3", share=0.95), version("v4", share=0.05, mirror=0.1, ready=0, replicas=2)])
    assert shares(canary) == "v3 95% v4 5%, mirror v4 10%"
    assert servers_text(canary) == "1/3"
    assert shares(summary(versions=[version("v1", share=0.0)])) == "-"
    assert servers_text(summary(versions=[version("gpt", provider="far")])) == "remote"


def test_show_tells_what_is_under_way_and_where_a_rollback_leads() -> None:
    pending = Pending(what="swap", by="ada", since=0.0, weights={"v4": 100.0})
    told = summary(pending=pending, previous={"v2": 100.0}, idle_unload_seconds=900.0)
    facts = dict(facts_of(EndpointDetail(**told, spec={}, history=[])))
    assert facts["under way"].startswith("swap to v4=100 since ")
    assert facts["rollback to"] == "v2=100"
    assert facts["unload"] == "after 15m00s without a request"
    row = version_row(version("v4", weight=0.0, share=0.0, target_weight=100.0, state="starting", ready=0))
    assert row[:6] == ["v4", "starting", "-", "0 -> 100", "-", "0/1"]
    assert version_row(version("polite", adapter_of="v1"))[5] == "on v1"
    assert version_row(version("far", provider="openai", model=""))[9] == "provider openai"


class Serving:
    """Answers with the summaries it was given, one after the other; the last one stays."""

    def __init__(self, *summaries: EndpointSummary, gateway: str = "running") -> None:
        self.left = list(summaries)
        self.state = gateway

    def endpoint(self, name: str) -> EndpointDetail:
        told = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        change = {"t": 1.0, "by": "ada", "what": "swap given up: it did not start", "before": {}, "after": {}}
        return EndpointDetail(**told, spec={}, history=[change])  # type: ignore[list-item]

    def gateway(self) -> GatewayInfo:
        return GatewayInfo(
            state=self.state, problem="the port is in use" if self.state == "failed" else "", pid=1, url="u", auth="none", revision=1,
            uptime_seconds=1.0, rss_bytes=1, connections=0, in_flight=0, requests_total=0, warnings=[],
        )  # fmt: skip


class Client:
    def __init__(self, *summaries: EndpointSummary, gateway: str = "running") -> None:
        self.serving = Serving(*summaries, gateway=gateway)


def test_waiting_ends_when_it_answers_and_says_what_went_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("llmops_tui.commands.endpoints_wait._POLL_SECONDS", 0.0)
    loading = summary(state="starting", replicas=[server("serve-support-0001", state="starting", cause="starting llamacpp")])
    assert progress(loading) == "starting: v1 loads with llamacpp on port 9001: starting llamacpp"
    settled = settle(Client(loading, loading, summary()), loading)  # type: ignore[arg-type]
    assert settled["state"] == "ready"
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "support starting: v1 loads with llamacpp on port 9001: starting llamacpp"
    assert said[-1].startswith("support ready in ")
    assert len(said) == 2  # nothing twice


@pytest.mark.parametrize(
    ("told", "gateway", "said"),
    [
        (summary(state="broken", reason="v1: killed for memory"), "running", "support does not answer: v1: killed for memory"),
        (summary(), "failed", "the port is in use"),
        (
            summary(
                pending=Pending(what="swap", by="ada", since=0.0, weights={"v2": 100.0}),
                versions=[version("v1"), version("v2", state="broken", reason="no such file")],
            ),
            "running",
            "support: v2 does not start: no such file",
        ),
    ],
)
def test_waiting_ends_with_an_error_where_it_cannot_come_true(told: EndpointSummary, gateway: str, said: str) -> None:
    client: Any = Client(told, gateway=gateway)
    assert outcome(told, client) == said
    with pytest.raises(LlmopsError, match=said):
        settle(client, told)


def test_a_change_that_was_given_up_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmops_tui.commands.endpoints_wait._POLL_SECONDS", 0.0)
    asked = summary(
        pending=Pending(what="swap", by="ada", since=0.0, weights={"v2": 100.0}),
        versions=[version("v1"), version("v2", weight=0.0, share=0.0)],
    )
    back = summary(versions=[version("v1"), version("v2", weight=0.0, share=0.0)])
    client: Any = Client(asked, back)
    with pytest.raises(LlmopsError, match="swap given up: it did not start"):
        settle(client, asked)


def test_a_gateway_that_starts_is_waited_for() -> None:
    client: Any = Client(summary(), gateway="starting")
    assert outcome(summary(), client) is None
    assert outcome(summary(state="asleep", replicas=[]), Client(summary())) == ""  # type: ignore[arg-type]


def test_limits_of_a_key_are_told_in_words() -> None:
    key = KeyInfo(
        id="key-1", name="web", owner="ada", created_at=1.0, endpoints=["*"], requests_per_minute=60.0, tokens_per_minute=0.0,
        tokens_per_day=100_000, concurrent=4, revoked=False,
    )  # fmt: skip
    assert limits_text(key) == "60 requests/min, 100,000 tokens/day, 4 at a time"
    assert limits_text({**key, "requests_per_minute": 0, "tokens_per_day": 0, "concurrent": 0}) == "no limits"


def test_a_gateway_that_failed_says_why() -> None:
    facts = dict(gateway_facts(Serving(summary(), gateway="failed").gateway()))
    assert facts["gateway"] == "failed: the port is in use"


def test_latency_is_a_line_a_version_and_window_with_requests() -> None:
    window = {"requests": 10, "errors": 1, "good": 9, "ttft_p50": 57.0, "ttft_p95": 68.25, "ttft_p99": 1200.0}
    load = EngineLoad(running=2.0, waiting=0.0, kv_cache_fraction=0.5, prefix_hit_fraction=None, generated_tokens_per_second=18.44)
    told = VersionLive(windows={"3600": window, "60": {"requests": 0}}, load=load, joules_per_1k_tokens=None, cost_per_1k_tokens=0.25)
    live = EndpointLive(endpoint="support", t=1.0, versions={"v1": told}, energy_basis="", currency="EUR")
    assert live_rows(live) == [["v1", "1h00m", "10", "1", "90%", "57/68.2/1200 ms", "-", "-", "-"]]
    assert load_rows(live) == [["v1", "2", "0", "50%", "-", "18.44", "-", "0.25"]]
    assert quantiles({"total_p50": 9.0, "total_p95": 2000.0, "total_p99": 12_345.0}, "total") == "0.009/2/12.3 s"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gpu": True, "devices": ["NVIDIA H100"]}, "llamacpp 1.0: works, on GPU (NVIDIA H100)"),
        ({"warning": "this box has a GPU and the wheel none"}, "llamacpp 1.0: works, on the CPU; this box has a GPU and the wheel none"),
        ({"problem": "the CPU lacks AVX-512"}, "llamacpp 1.0: the CPU lacks AVX-512"),
        ({"source": "", "version": ""}, "llamacpp: not installed; `llmops-tui runtimes install llamacpp`"),
    ],
)
def test_a_runtime_is_told_in_a_line(changes: dict[str, Any], said: str) -> None:
    runtime = RuntimeInfo(
        name="llamacpp", purpose="serving", told="", source="made", python="/p", version="1.0", wanted=[], checked=True, gpu=False,
        devices=[], problem="", warning="",
    )  # fmt: skip
    assert verdict({**runtime, **changes}) == said  # type: ignore[typeddict-item]
