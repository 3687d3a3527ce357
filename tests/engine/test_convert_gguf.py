"""A GGUF file becomes the model that transformers' own loader makes of it, or nothing at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llmops_tui.engine.jobs import convert_gguf
from llmops_tui.engine.jobs.convert_gguf import convert, main
from llmops_tui.errors import UsageError

HIDDEN, HEADS, KEY_VALUE_HEADS, MLP, LAYERS = 64, 4, 2, 96, 2


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def write_gguf(path: Path, merge: str = "a b") -> Path:
    """Matrices in Q8_0, norms in float32, a byte-level tokenizer with a chat template: as llama.cpp's converter writes it."""
    from gguf import GGMLQuantizationType, GGUFWriter, quantize
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, "ab", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(MLP)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_VALUE_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(100000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (len(letters) + 1) + [3] * 3)
    writer.add_token_merges([merge])
    writer.add_bos_token_id(len(tokens) - 2)
    writer.add_eos_token_id(len(tokens) - 1)
    writer.add_pad_token_id(len(tokens) - 1)
    writer.add_chat_template("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    generator = np.random.default_rng(0)
    key_value = HIDDEN // HEADS * KEY_VALUE_HEADS
    matrices = {"attn_q": (HIDDEN, HIDDEN), "attn_k": (key_value, HIDDEN), "attn_v": (key_value, HIDDEN), "attn_output": (HIDDEN, HIDDEN)}
    matrices |= {"ffn_gate": (MLP, HIDDEN), "ffn_up": (MLP, HIDDEN), "ffn_down": (HIDDEN, MLP)}
    shapes = {"token_embd": (len(tokens), HIDDEN)}
    shapes |= {f"blk.{block}.{name}": shape for block in range(LAYERS) for name, shape in matrices.items()}
    for name, shape in shapes.items():
        values = generator.normal(0, 0.1, shape).astype(np.float32)
        writer.add_tensor(f"{name}.weight", quantize(values, GGMLQuantizationType.Q8_0), raw_dtype=GGMLQuantizationType.Q8_0)
    for name in ["output_norm", *(f"blk.{block}.{norm}" for block in range(LAYERS) for norm in ("attn_norm", "ffn_norm"))]:
        writer.add_tensor(f"{name}.weight", generator.normal(1, 0.1, HIDDEN).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def logits(directory: Path) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    assert not getattr(model.config, "quantization_config", None)
    with torch.inference_mode():
        result: torch.Tensor = model(torch.arange(40)[None]).logits
    return result


def test_the_converted_model_is_the_one_transformers_makes(gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    convert(gguf_file, tmp_path / "ours", lines.append)
    monkeypatch.setattr(convert_gguf, "_llama_name", lambda name: None)  # as for an architecture we do not know
    convert(gguf_file, tmp_path / "theirs", lambda line: None)
    torch.testing.assert_close(logits(tmp_path / "ours"), logits(tmp_path / "theirs"), rtol=0, atol=0)
    for name in ("tokenizer.json", "chat_template.jinja", "generation_config.json", "model.safetensors"):
        assert (tmp_path / "ours" / name).is_file(), name
    assert lines[-1] == f"wrote {tmp_path / 'ours'}"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGML and so on")
    assert main([str(tmp_path / "model.gguf"), str(tmp_path / "out")]) == 2
    assert "is not a GGUF file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_missing_file_is_told_by_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "no.gguf"), str(tmp_path / "out")]) == 4
    assert "no such file" in capsys.readouterr().err


@pytest.mark.parametrize("kept", [40, 2000, 0.5, 0.98])
def test_a_truncated_file_is_refused_and_leaves_nothing(gguf_file: Path, tmp_path: Path, kept: float) -> None:
    content = gguf_file.read_bytes()
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(content[: int(kept if kept > 1 else kept * len(content))])
    with pytest.raises(UsageError, match="broken GGUF file"):
        convert(broken, tmp_path / "out", lambda line: None)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.gguf"]


def test_a_tokenizer_that_cannot_be_built_is_told_in_one_line(tmp_path: Path) -> None:
    broken = write_gguf(tmp_path / "broken.gguf", merge="b c")
    with pytest.raises(UsageError, match=r"tokenizer of broken\.gguf cannot be read: .*out of vocabulary"):
        convert(broken, tmp_path / "out", lambda line: None)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.gguf"]


def test_a_directory_with_something_in_it_is_never_written_over(gguf_file: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(UsageError, match="already exists"):
        convert(gguf_file, tmp_path, lambda line: None)
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_full_disk_leaves_nothing(
    gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(convert_gguf, "_make_durable", fail)
    assert main([str(gguf_file), str(tmp_path / "out")]) == 1
    assert "No space left on device; free some disk" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
