"""What each serving engine is started with, asked, and how what it tells is read, by any of the names it ever had."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from llmops_tui.engine.serving.launchers.llamacpp import LlamaCpp, own_settings
from llmops_tui.engine.serving.launchers.llamacpp_server import converted
from llmops_tui.engine.serving.launchers.metric_names import reading_of, samples_of
from llmops_tui.engine.serving.launchers.plan import Adapter, Plan, read_plan
from llmops_tui.engine.serving.launchers.transformers_serve import TransformersServe
from llmops_tui.engine.serving.launchers.vllm import Vllm

PLAN = Plan("vllm", "/env/bin/python", "0.32.0", "/models/eight", "eight@v2", 4096, 16, 3, "127.0.0.1", 0, gpu=True, memory_fraction=0.61)


def pairs(argv: list[str]) -> dict[str, str]:
    return {word: value for word, value in itertools.pairwise(argv) if word.startswith("--")}


def test_vllm_is_started_offline_by_path_with_what_was_planned(tmp_path: Path) -> None:
    argv = Vllm().argv(replace(PLAN, adapters=[Adapter("tone", "/a/tone")], arguments=["--swap-space", "8"]), 9007, tmp_path)
    told = pairs(argv)
    assert argv[:3] == ["/env/bin/python", "-m", "vllm.entrypoints.openai.api_server"]
    assert (told["--model"], told["--served-model-name"], told["--port"]) == ("/models/eight", "eight@v2", "9007")
    assert (told["--max-model-len"], told["--max-num-seqs"], told["--gpu-memory-utilization"]) == ("4096", "16", "0.610")
    assert told["--lora-modules"] == "tone=/a/tone"
    assert argv[-2:] == ["--swap-space", "8"]
    env = Vllm().environment(PLAN)
    assert (env["HF_HUB_OFFLINE"], env["VLLM_NO_USAGE_STATS"]) == ("1", "1")


def test_vllm_opens_nothing_that_was_not_wished_for(tmp_path: Path) -> None:
    argv, env = Vllm().argv(PLAN, 9007, tmp_path), Vllm().environment(PLAN)
    assert not {"--enable-lora", "--max-loras", "--lora-modules", "--enable-sleep-mode"} & set(argv)
    # The box's own environment may have them set: they are told off, not left away.
    assert (env["VLLM_SERVER_DEV_MODE"], env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"]) == ("0", "False")
    assert (Vllm().load_adapter(PLAN, "tone", "/a/tone"), Vllm().unload_adapter(PLAN, "tone")) == (None, None)


@pytest.mark.parametrize(
    ("given", "loras"),
    [
        ({"adapters": 1}, "1"),
        ({"adapter_room": 3}, "3"),
        ({"adapters": 2, "adapter_room": 3}, "5"),
        ({"adapters": 7, "adapter_room": 9}, "8"),
    ],
)
def test_vllm_has_loras_where_there_are_adapters_or_may_come(tmp_path: Path, given: dict[str, int], loras: str) -> None:
    listed = [Adapter(f"a{number}", f"/a/{number}") for number in range(given.get("adapters", 0))]
    plan = replace(PLAN, adapters=listed, adapter_room=given.get("adapter_room", 0))
    argv, env = Vllm().argv(plan, 9007, tmp_path), Vllm().environment(plan)
    assert "--enable-lora" in argv
    assert pairs(argv)["--max-loras"] == loras
    assert ("--lora-modules" in argv) == bool(listed)
    assert (env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"], env["VLLM_SERVER_DEV_MODE"]) == ("True", "0")


@pytest.mark.parametrize(("ranks", "told"), [((0,), None), ((4, 16), None), ((8, 32), "32"), ((40,), "64"), ((900,), "512")])
def test_vllm_makes_room_for_the_greatest_rank_among_its_adapters(tmp_path: Path, ranks: tuple[int, ...], told: str | None) -> None:
    plan = replace(PLAN, adapters=[Adapter(f"a{rank}", "/a", rank) for rank in ranks])
    assert pairs(Vllm().argv(plan, 9007, tmp_path)).get("--max-lora-rank") == told


def test_vllm_sleeps_where_that_was_wished_and_it_holds_a_gpu(tmp_path: Path) -> None:
    plan = replace(PLAN, sleep_mode=True)
    assert "--enable-sleep-mode" in Vllm().argv(plan, 9007, tmp_path)
    assert "--enable-lora" not in Vllm().argv(plan, 9007, tmp_path)
    env = Vllm().environment(plan)
    assert (env["VLLM_SERVER_DEV_MODE"], env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"]) == ("1", "False")
    on_a_cpu = replace(plan, gpu=False)
    assert "--enable-sleep-mode" not in Vllm().argv(on_a_cpu, 9007, tmp_path)
    assert Vllm().environment(on_a_cpu)["VLLM_SERVER_DEV_MODE"] == "0"


def test_a_server_calls_itself_by_a_name_that_can_be_asked_for(tmp_path: Path) -> None:
    plan = replace(PLAN, served_as="support:v3")
    assert pairs(Vllm().argv(plan, 9007, tmp_path))["--served-model-name"] == "support:v3"
    assert LlamaCpp().settings(plan, 1)["params"]["model_alias"] == "support:v3"
    for launcher in (Vllm(), LlamaCpp()):
        assert (launcher.upstream_name(plan, tmp_path), launcher.upstream_name(PLAN, tmp_path)) == ("support:v3", "eight@v2")


def test_vllm_without_a_gpu_is_told_its_cache_and_its_cores(tmp_path: Path) -> None:
    plan = replace(PLAN, gpu=False, kv_bytes=(3 << 30) + 1)
    assert "--enable-sleep-mode" not in Vllm().argv(plan, 9007, tmp_path)
    env = Vllm().environment(plan)
    assert (env["VLLM_CPU_KVCACHE_SPACE"], env["VLLM_CPU_OMP_THREADS_BIND"]) == ("4", "0-2")


def test_vllms_adapters_come_and_go_while_it_runs() -> None:
    plan = replace(PLAN, adapter_room=1)
    load, unload = Vllm().load_adapter(plan, "tone", "/a/tone"), Vllm().unload_adapter(plan, "tone")
    assert load is not None
    assert unload is not None
    assert (load.verb, load.path, load.body) == ("POST", "/v1/load_lora_adapter", {"lora_name": "tone", "lora_path": "/a/tone"})
    assert unload.body == {"lora_name": "tone"}


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ('vllm:num_requests_running{model_name="m"} 3.0\nvllm:kv_cache_usage_perc{model_name="m"} 0.25\n', (3, None, 0.25)),
        ('vllm:num_requests_running{m="a"} 1\nvllm:num_requests_running{m="b"} 2\nvllm:gpu_cache_usage_perc{m="a"} 0.5\n', (3, None, 0.5)),
        ("# HELP x\nllamacpp:requests_processing 2\nllamacpp:requests_deferred 5\nllamacpp:kv_cache_usage_ratio 0.75\n", (2, 5, 0.75)),
        ("nothing of ours 1\n", (None, None, None)),
    ],
)
def test_a_page_is_read_whichever_version_wrote_it(page: str, expected: tuple[float | None, ...]) -> None:
    found = reading_of(page)
    assert (found.running, found.waiting, found.kv_cache_fraction) == expected


def test_tokens_found_in_a_cache_are_told_apart_from_those_computed() -> None:
    for hits, queries in (
        ("vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"),
        ("vllm:gpu_prefix_cache_hits", "vllm:gpu_prefix_cache_queries"),
    ):
        found = reading_of(f"{hits} 30\n{queries} 100\nvllm:prompt_tokens_total 100\n")
        assert (found.prompt_tokens, found.cached_tokens) == (70, 30)


def test_what_is_no_sample_is_passed_over() -> None:
    assert samples_of('a 1\nb NaN\nc{x="} 2"} 3 1700000000\nbroken\n\n# a 9\nd +Inf\n') == {"a": 1, "c": 3}


def test_llamacpp_gets_the_context_of_all_slots_and_the_users_own_settings_win(tmp_path: Path) -> None:
    plan = replace(PLAN, runtime="llamacpp", gpu=False, arguments=["--n-batch", "64", "--no-perf", "--n_ctx=9999"])
    argv = LlamaCpp().argv(replace(plan, adapters=[Adapter("tone", "/a/tone.gguf")]), 9003, tmp_path)
    told = json.loads(Path(argv[-1]).read_bytes())
    assert told["params"]["n_parallel"] == 16
    assert told["params"]["n_ctx"] == "9999"
    assert (told["params"]["n_batch"], told["params"]["no_perf"]) == ("64", "true")
    assert (told["adapters"], told["threads"]) == (["/a/tone.gguf"], 3)
    assert LlamaCpp().settings(replace(plan, arguments=[]), 1)["params"]["n_ctx"] == 16 * 4096


def test_a_word_after_no_setting_is_refused() -> None:
    with pytest.raises(ValueError, match="'512' follows no --setting"):
        own_settings(["512"])


@pytest.mark.parametrize(("text", "old", "new"), [("on", False, True), ("7", 1, 7), ("0.5", 1.0, 0.5), ("a,b", ["x"], ["a", "b"])])
def test_a_setting_becomes_what_it_was(text: str, old: object, new: object) -> None:
    assert converted(text, old) == new


def test_transformers_is_capped_in_memory_and_batches_only_where_it_has_slots(tmp_path: Path) -> None:
    plan = replace(PLAN, runtime="transformers", gpu=False, slots=4, context=1000, memory_fraction=0.2)
    argv = TransformersServe().argv(plan, 9009, tmp_path)
    told = pairs(argv)
    assert (told["--cb-num-blocks"], told["--cb-block-size"], told["--cb-max-memory-percent"]) == ("125", "32", "0.200")
    assert (told["--device"], told["--dtype"]) == ("cpu", "float32")
    assert "--continuous-batching" not in TransformersServe().argv(replace(plan, slots=1), 9009, tmp_path)


def test_transformers_serves_an_adapter_from_a_directory_of_links(tmp_path: Path) -> None:
    base, adapter, work = tmp_path / "base", tmp_path / "adapter@v2", tmp_path / "work"
    for directory in (base, adapter, work):
        directory.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (base / name).write_text("{}")
    (adapter / "adapter_config.json").write_text('{"r": 8, "base_model_name_or_path": "elsewhere"}')
    (adapter / "adapter_model.safetensors").write_text("")
    plan = replace(PLAN, runtime="transformers", format="adapter", model_path=str(adapter), base_path=str(base))
    argv = TransformersServe().argv(plan, 9009, work)
    made = Path(argv[4])
    assert made == work / "model"
    assert json.loads((made / "adapter_config.json").read_bytes()) == {"r": 8, "base_model_name_or_path": str(base)}
    assert (made / "adapter_model.safetensors").exists()
    assert (made / "tokenizer.json").exists()
    assert not (made / "model.safetensors").exists()  # found by the base's own path


def test_a_plan_is_read_as_it_was_written() -> None:
    plan = replace(PLAN, adapters=[Adapter("tone", "/a/tone", 32)])
    assert read_plan(json.loads(json.dumps({**plan.to_json(), "of a later version": 1}))) == plan
