"""What a run will take is told from the model's configuration and the spec alone, and corrected by what was measured."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from llmops_tui.engine.estimate.adapters import adapted
from llmops_tui.engine.estimate.calibration import Calibration, Likeness, Outcome
from llmops_tui.engine.estimate.estimate import Box, ModelFacts, estimate
from llmops_tui.engine.estimate.shapes import shape_of
from llmops_tui.engine.estimate.workload import RowFacts, workload
from llmops_tui.engine.tariff import Tariff
from llmops_tui.specs.answers import EstimateAnswer
from llmops_tui.specs.train import TrainSpec

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
SMOLLM2 = {
    **LLAMA, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
    "vocab_size": 49152, "tie_word_embeddings": True, "max_position_embeddings": 8192,
}  # fmt: skip
LLAMA_8B = {
    **LLAMA, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "vocab_size": 128256, "max_position_embeddings": 8192,
}  # fmt: skip
LLAMA_70B = {
    **LLAMA_8B, "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80, "num_attention_heads": 64,
}  # fmt: skip
MISTRAL_7B = {
    "model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "vocab_size": 32000, "tie_word_embeddings": False,
}  # fmt: skip
QWEN2_HALF_B = {
    "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
    "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
}  # fmt: skip
QWEN3_06B = {
    "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
    "num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "tie_word_embeddings": True,
}  # fmt: skip
GEMMA_2B = {
    "model_type": "gemma", "hidden_size": 2048, "intermediate_size": 16384, "num_hidden_layers": 18, "num_attention_heads": 8,
    "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 256000,
}  # fmt: skip
GEMMA2_2B = {
    "model_type": "gemma2", "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26, "num_attention_heads": 8,
    "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 256000, "final_logit_softcapping": 30.0,
}  # fmt: skip
PHI3_MINI = {
    "model_type": "phi3", "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 32, "vocab_size": 32064,
}  # fmt: skip
PYTHIA_70M = {
    "model_type": "gpt_neox", "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 6, "num_attention_heads": 8,
    "vocab_size": 50304,
}  # fmt: skip
GIB = 1 << 30
CPU = Box("cpu", "16 cores", 24 * GIB, threads=1)
GPU = Box("cuda", "NVIDIA H100 80GB", 80 * GIB, threads=1, gpus=1, watts=500.0)


def wish(**fields: Any) -> TrainSpec:
    return TrainSpec.model_validate({"model": "m", "dataset": {"path": "rows.jsonl"}, **fields})


def told(config: dict[str, Any] = SMOLLM2, box: Box = CPU, history: Calibration | None = None, **fields: Any) -> EstimateAnswer:
    rows = RowFacts(learnt=600, held_out=48, mean_tokens=200.0, longest_tokens=4000, source="600 rows read")
    return estimate(wish(**fields), ModelFacts(shape_of(config), 270_000_000), rows, box, history)


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (SMOLLM2, 134_515_008),
        (LLAMA_8B, 8_030_261_248),
        (LLAMA_70B, 70_553_706_496),
        (MISTRAL_7B, 7_241_732_096),
        (QWEN2_HALF_B, 494_032_768),
        (QWEN3_06B, 596_049_920),
        (GEMMA_2B, 2_506_172_416),
        (GEMMA2_2B, 2_614_341_888),
        (PHI3_MINI, 3_821_079_552),
        ({"model_type": "gpt2"}, 124_439_808),
        (PYTHIA_70M, 70_426_624),
    ],
)
def test_parameters_are_exact_from_the_configuration_alone(config: dict[str, Any], parameters: int) -> None:
    assert shape_of(config).parameters == parameters


def test_the_text_model_of_a_larger_one_is_counted_by_its_weight_files() -> None:
    shape = shape_of({"model_type": "llava", "text_config": SMOLLM2}, {}, 150_000_000)
    assert (shape.hidden, shape.parameters) == (576, 150_000_000)


def test_a_family_that_is_not_known_is_told_from_its_weight_files_and_says_so() -> None:
    config = {"model_type": "new", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 500}
    matrices = {"blocks.0.wide.weight": (128, 64), "blocks.0.back.weight": (64, 128), "tokens.weight": (500, 64)}
    shape = shape_of(config, matrices, 48_384)
    assert shape.parameters == 48_384
    assert adapted(shape, "all-linear").parameters(8, dora=False) == 2 * 8 * (128 + 64)
    found = estimate(wish(), ModelFacts(shape), RowFacts(), CPU)
    assert "not known" in found["basis"]
    with pytest.raises(ValueError, match="safetensors"):
        estimate(wish(), ModelFacts(shape_of(config)), RowFacts(), CPU)


@pytest.mark.parametrize(
    "config", [{}, {**SMOLLM2, "hidden_size": "wide"}, {**SMOLLM2, "num_hidden_layers": 0}, {**SMOLLM2, "vocab_size": True}]
)
def test_a_configuration_without_sizes_names_the_key(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"config.json: \w+ is"):
        shape_of(config)


def test_what_lora_and_dora_train_is_exact() -> None:
    shape = shape_of(SMOLLM2)
    assert adapted(shape, "all-linear").parameters(16, dora=False) == 4_884_480  # as PEFT says of SmolLM2 at rank 16
    outputs = 30 * (576 + 2 * 192 + 576 + 2 * 1536 + 576)
    assert adapted(shape, "all-linear").parameters(16, dora=True) == 4_884_480 + outputs
    assert adapted(shape, ["q_proj", "v_proj"]).parameters(8, dora=False) == 30 * 8 * (576 + 576 + 576 + 192)
    assert adapted(shape, r".*layers\.0\..*q_proj").parameters(8, dora=False) == 8 * (576 + 576)
    assert not adapted(shape, "(").matrices


def test_the_parts_add_up_and_the_band_lies_around_the_peak() -> None:
    found = told()
    assert sum(found["parts"].values()) == pytest.approx(found["memory_bytes"], abs=16)
    assert found["memory_low"] < found["memory_bytes"] < found["memory_high"]
    assert found["parts"]["weights"] == 134_515_008 * 4
    assert found["parts"]["optimizer"] == 2 * 4 * found["trainable"]
    assert "no run like it was measured here yet" in found["basis"]


def test_checkpointing_and_shorter_rows_need_less_memory_and_a_larger_model_more() -> None:
    plain = told(gradient_checkpointing=False)["memory_bytes"]
    assert told(gradient_checkpointing=True)["memory_bytes"] < plain
    assert told(gradient_checkpointing=False, max_length=128)["memory_bytes"] < plain
    assert told(MISTRAL_7B, GPU)["memory_bytes"] > 14 * 10**9


def test_on_a_cpu_the_batch_costs_no_memory_beyond_a_pass_of_512_tokens() -> None:
    small, large = told(micro_batch=4, max_length=256), told(micro_batch=64, max_length=256)
    assert small["memory_bytes"] == large["memory_bytes"]
    squashed, plain = (told(shape, max_length=256, micro_batch=8)["parts"] for shape in (GEMMA2_2B, GEMMA_2B))
    assert squashed["loss"] == 3 * 4 * 8 * 256 * 256000
    assert plain.get("loss", 0) < squashed["loss"] / 10


def test_a_pass_is_as_large_as_the_job_makes_it() -> None:
    rows = RowFacts(longest_tokens=300, mean_tokens=100.0)
    spec = wish(micro_batch=8, max_length=1024, accumulation=2)
    assert workload(spec, rows, device="cpu", packed=False, own_loss=True).pass_tokens == 500  # five rows of 100; one of 300
    assert workload(spec, rows, device="cpu", packed=False, own_loss=False).pass_tokens == 2400
    assert workload(spec, rows, device="cuda", packed=True, own_loss=True).pass_tokens == 1024
    assert workload(spec, RowFacts(), device="cpu", packed=False, own_loss=True).pass_tokens == 1024


def test_two_processes_take_half_the_steps_and_the_same_tokens() -> None:
    rows, shared = RowFacts(learnt=64, mean_tokens=50, longest_tokens=100), {"device": "cpu", "packed": False, "own_loss": True}
    one = workload(wish(micro_batch=4), rows, **shared)
    two = workload(wish(micro_batch=4, processes={"count": 2}, resources={"gpus": 2}), rows, **shared)
    assert (one.steps, two.steps) == (16, 8)
    assert one.tokens == two.tokens == 3200
    assert one.pass_tokens == two.pass_tokens, "each of the two holds as much as one alone"


def test_two_gpus_take_half_of_the_time_of_one() -> None:
    one = told(LLAMA_8B, GPU, epochs=50)
    two = told(LLAMA_8B, replace(GPU, gpus=2), epochs=50, processes={"count": 2}, resources={"gpus": 2})
    assert one["seconds"]
    assert two["seconds"] == pytest.approx(one["seconds"] / 2, rel=0.05)
    assert two["energy_joules"] == pytest.approx(one["energy_joules"], rel=0.05)


def test_the_largest_sizes_fit_and_the_next_ones_do_not() -> None:
    small = Box("cuda", "a card", 24 * GIB, threads=1, gpus=1)
    found = told(LLAMA_8B, small, packing=False, gradient_checkpointing=True)
    largest = found["largest_micro_batch"]
    assert largest
    assert told(LLAMA_8B, small, packing=False, gradient_checkpointing=True, micro_batch=largest)["fits"] == "yes"
    assert told(LLAMA_8B, small, packing=False, gradient_checkpointing=True, micro_batch=largest * 2)["fits"] != "yes"
    assert told(LLAMA_8B, Box("cuda", "a card", 12 * GIB, 1, 1))["fits"] == "no"
    assert told(LLAMA_8B, Box("cuda", "a card", 12 * GIB, 1, 1))["largest_micro_batch"] == 0
    assert told(LLAMA_8B, Box("cuda", "a card", None, 1, 1))["fits"] == "unknown"


def test_time_tokens_energy_and_cost_follow_the_rows() -> None:
    spec = wish(epochs=2, micro_batch=4, accumulation=2)
    rows = RowFacts(learnt=600, held_out=48, mean_tokens=200.0, source="600 rows read")
    found = estimate(spec, ModelFacts(shape_of(SMOLLM2)), rows, GPU, tariff=Tariff(per_kwh=0.3, per_gpu_hour=2.0))
    assert (found["steps"], found["tokens"]) == (150, 150 * 8 * 200)
    assert found["seconds"]
    assert found["energy_joules"]
    assert found["energy_joules"] == pytest.approx(found["seconds"] * 500.0)
    assert found["cost"] == pytest.approx(found["energy_joules"] / 3.6e6 * 0.3 + found["seconds"] / 3600 * 2.0)
    unknown = estimate(spec, ModelFacts(shape_of(SMOLLM2)), RowFacts(), CPU)
    assert (unknown["seconds"], unknown["tokens"]) == (None, None)
    assert "the rows were not counted" in unknown["basis"]


def test_a_frozen_models_token_costs_two_thirds_of_a_trained_ones() -> None:
    from llmops_tui.engine.estimate.memory import Setup
    from llmops_tui.engine.estimate.speed import flops_a_token

    shape, load = shape_of(LLAMA_8B), workload(wish(), RowFacts(learnt=8), device="cuda", packed=False, own_loss=True)
    targets = adapted(shape, ["q_proj"])
    full, _ = flops_a_token(shape, targets, Setup("cuda", "full", 2, False, 1, 0, 2), load, 1.0)
    lora, forward = flops_a_token(shape, targets, Setup("cuda", "lora", 2, False, 1, 0, 2), load, 1.0)
    assert lora / full == pytest.approx(2 / 3, rel=0.01)
    assert full == pytest.approx(3 * forward)


ALIKE = Likeness("cpu", "lora", False, "llama")


def test_finished_runs_draw_the_prediction_to_what_was_measured_the_more_the_more_there_are() -> None:
    raw = told()
    once = told(history=Calibration([Outcome(ALIKE, 1.3, None)]))
    often = told(history=Calibration([Outcome(ALIKE, 1.3, None)] * 10))
    work = raw["formula"]["work_bytes"]
    growths = [found["memory_bytes"] - found["parts"]["framework"] for found in (raw, once, often)]
    assert growths[0] == work < growths[1] < growths[2]
    assert growths[2] == pytest.approx(1.3 * work, rel=0.03)
    assert "corrected by 10 runs like it" in often["basis"]
    assert often["formula"] == raw["formula"]  # what is stored beside the measured stays the formula's


def test_a_band_narrows_with_runs_that_agree_and_widens_with_ones_that_do_not() -> None:
    def width(ratios: list[float]) -> float:
        found = Calibration([Outcome(ALIKE, ratio, None) for ratio in ratios]).correction("memory", ALIKE)
        return math.log(found.high / found.low)

    assert width([1.1] * 12) < width([]) < width([0.7, 1.5] * 6)


def test_runs_of_another_architecture_help_a_little_and_those_of_another_device_not_at_all() -> None:
    history = Calibration([Outcome(Likeness("cpu", "lora", False, "gemma"), 1.4, 2.0)] * 8)
    near, far = history.correction("memory", ALIKE), history.correction("memory", ALIKE._replace(device="cuda"))
    assert near.factor > 1.2
    assert (near.alike, near.runs) == (0, 8)
    assert (far.factor, far.runs) == (1.0, 0)


@pytest.mark.parametrize("ratio", [0.0, -1.0, math.nan, math.inf])
def test_a_measurement_that_cannot_be_true_corrects_nothing(ratio: float) -> None:
    assert Calibration([Outcome(ALIKE, ratio, ratio)]).correction("memory", ALIKE).factor == 1.0


def test_the_time_of_a_short_run_is_no_surer_than_the_formula_that_told_it() -> None:
    short = told(max_steps=2)
    assert short["seconds"]
    assert short["seconds_low"]
    assert short["seconds_high"]
    assert short["seconds_low"] < short["seconds"] / 1.9
    assert short["seconds_high"] > short["seconds"] * 1.9


def test_runs_that_are_not_alike_make_nobody_surer() -> None:
    others = Calibration([Outcome(ALIKE._replace(architecture="gemma"), 1.1, 1.1)] * 20)
    sure, unsure = others.correction("seconds", ALIKE._replace(architecture="gemma")), others.correction("seconds", ALIKE)
    alone = Calibration().correction("seconds", ALIKE)
    assert math.log(sure.high) < 0.5 * math.log(unsure.high)
    assert unsure.high >= alone.high


def parts(**fields: Any) -> dict[str, int]:
    return told(LLAMA_8B, GPU, gradient_checkpointing=True, **fields)["parts"]


def test_dpo_and_kto_of_a_whole_model_hold_a_second_one_and_of_an_adapter_none() -> None:
    for method in ("dpo", "kto"):
        assert parts(method=method, adaptation="full")["reference"] == 2 * 8_030_261_248
        assert "reference" not in parts(method=method)
    assert "reference" not in parts(method="orpo", adaptation="full")


def test_grpo_holds_a_second_model_only_where_it_is_kept_close_to_it() -> None:
    free = {"method": "grpo", "adaptation": "full", "micro_batch": 8, "grpo": {"group": 4, "completion_tokens": 100}}
    held = {**free, "grpo": {"group": 4, "completion_tokens": 100, "beta": 0.04}}
    assert "reference" not in parts(**free)
    assert parts(**held)["reference"] == 2 * 8_030_261_248


def test_generated_answers_count_where_their_keys_and_values_need_more_than_a_pass() -> None:
    few = {"method": "grpo", "micro_batch": 1, "accumulation": 4, "max_length": 4096, "grpo": {"group": 4, "completion_tokens": 3500}}
    assert "generation" not in parts(**few)
    many = parts(**{**few, "accumulation": 256})
    width = 4096
    assert many["generation"] > 1024 // 4 * width * 32 * 2 * 1024 * 2  # rows, tokens, layers, keys and values of 1,024, bfloat16
    assert "loss" not in many


def test_a_teacher_lies_beside_the_student_and_one_that_is_not_known_is_taken_for_one_like_it() -> None:
    spec = wish(method="distill", distill={"teacher": "large"})
    student, rows = shape_of(SMOLLM2), RowFacts(learnt=64, mean_tokens=200.0)
    known = estimate(spec, ModelFacts(student, teacher_parameters=8_030_261_248), rows, GPU)
    unknown = estimate(spec, ModelFacts(student), rows, GPU)
    assert known["parts"]["teacher"] == 2 * 8_030_261_248
    assert unknown["parts"]["teacher"] == 2 * 134_515_008
    assert "the teacher is not known" in unknown["basis"]
    assert known["formula"]["training_seconds"] > 10 * unknown["formula"]["training_seconds"]


def test_pairs_are_two_sequences_a_row_and_a_reward_model_has_no_vocabulary_to_meet() -> None:
    one, two = parts(method="kto", packing=False), parts(method="dpo")
    assert two["activations"] > 1.9 * one["activations"]
    assert "loss" not in parts(method="reward")
    assert parts(method="orpo")["loss"] == 3 * 4 * 2 * 4 * 1024 * 128256


def test_answers_that_are_generated_take_their_time_token_by_token() -> None:
    def seconds(tokens: int) -> float:
        found = told(SMOLLM2, CPU, method="grpo", micro_batch=8, max_steps=10, grpo={"group": 4, "completion_tokens": tokens})
        assert found["seconds"]
        return found["seconds"]

    assert seconds(400) > 2 * seconds(50)


def test_on_a_cpu_the_heap_keeps_holes_of_what_a_pass_allocates_whether_it_is_kept_for_the_way_back_or_not() -> None:
    plain, again = (told(gradient_checkpointing=on, max_length=1024)["parts"] for on in (False, True))
    assert plain["allocator"] == pytest.approx(again["allocator"], rel=0.1)
    assert plain["activations"] > 5 * again["activations"]


def test_every_weight_is_counted_in_float32_with_a_copy_where_a_gpu_holds_that_and_in_bfloat16_where_not() -> None:
    parameters = shape_of(SMOLLM2).parameters or 0
    held = told(SMOLLM2, GPU, adaptation="full")
    assert (held["parts"]["weights"], held["parts"]["optimizer"], held["parts"]["copies"]) == tuple(n * parameters for n in (4, 8, 2))
    asked = told(SMOLLM2, GPU, adaptation="full", dtype="bfloat16")["parts"]
    assert (asked["weights"], asked["optimizer"], "copies" in asked) == (2 * parameters, 4 * parameters, False)
    assert told(LLAMA_8B, GPU, adaptation="full")["parts"]["weights"] == 2 * (shape_of(LLAMA_8B).parameters or 0)
    assert told(LLAMA_8B, replace(GPU, memory_bytes=192 * GIB), adaptation="full")["parts"]["weights"] > 30 * GIB // 2
    assert "copies" not in told(SMOLLM2, GPU)["parts"]
    cut = {"processes": {"count": 4, "strategy": "fsdp"}, "resources": {"gpus": 4}}
    assert told(LLAMA_8B, GPU, adaptation="full", **cut)["parts"]["weights"] == 4 * (shape_of(LLAMA_8B).parameters or 0)
