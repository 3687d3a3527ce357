"""What a model is made of, from its `config.json` alone: every weight's shape, the exact number of parameters. Pure, no torch.

Counts follow the modules of transformers 5 (`modeling_<family>.py`); `benchmarks/estimator.py` compares them with models that
transformers itself makes. A family that is not listed gets its matrices from the headers of its safetensors files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Matrix:
    """A linear layer's weight. `path` is the module's name within one layer, or within the model."""

    path: str
    inputs: int
    outputs: int
    bias: bool = False

    @property
    def parameters(self) -> int:
        return self.inputs * self.outputs + (self.outputs if self.bias else 0)


@dataclass(frozen=True)
class ModelShape:
    """Sizes in elements: `hidden` H, `queries` Q, `keys` K (of one of key and value), `intermediate` M.

    `layer` are the linear layers of one decoder layer and `layer_path` how a layer is named ("{}" is its number). `outer` are
    the embedding and, unless tied, the output layer. `norms_a_layer` counts the H-wide norms, `head_norms` says whether queries
    and keys are normalised too. `parameters` is None where the configuration alone cannot tell (an unknown family).
    """

    family: str
    architecture: str
    hidden: int
    layers: int
    vocabulary: int
    intermediate: int
    queries: int
    keys: int
    heads: int
    context: int | None
    tied: bool
    layer: tuple[Matrix, ...]
    layer_path: str
    outer: tuple[Matrix, ...]
    parameters: int | None
    norms_a_layer: int = 2
    head_norms: bool = False
    gated: bool = True
    plain_head: bool = True
    guessed: tuple[str, ...] = field(default=())

    @property
    def embedding_parameters(self) -> int:
        """What is looked up instead of multiplied with: the embedding, unless the output layer uses it too."""
        return 0 if self.tied else self.vocabulary * self.hidden


@dataclass(frozen=True)
class _Family:
    """How a family differs from Llama in what its configuration leaves out, and in its modules."""

    attention_bias: bool = False  # of q, k and v where the configuration has no `attention_bias`
    output_bias: bool | None = None  # of o; None: as the others
    mlp_bias: bool = False
    tied: bool = False
    head_dim: int | None = None
    kv_heads: int | None = None
    norms: int = 2
    head_norms: bool = False
    fused: bool = False  # Phi-3: qkv and gate_up are one matrix each


_LLAMA_LIKE = {
    "llama": _Family(),
    "mistral": _Family(kv_heads=8),
    "smollm3": _Family(),
    "granite": _Family(),
    "qwen2": _Family(attention_bias=True, output_bias=False, kv_heads=32),
    "qwen3": _Family(head_dim=128, kv_heads=32, head_norms=True),
    "gemma": _Family(tied=True, head_dim=256),
    "gemma2": _Family(tied=True, head_dim=256, kv_heads=4, norms=4),
    "gemma3_text": _Family(tied=True, head_dim=256, kv_heads=4, norms=4, head_norms=True),
    "phi3": _Family(fused=True),
}
KNOWN_FAMILIES = (*_LLAMA_LIKE, "gpt2", "gpt_neox")
# Settings by which logits are scaled or squashed after the output matrix: then the whole logits are formed (jobs/loss.py).
_LOGIT_SETTINGS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "output_multiplier", "lm_head_multiplier")

# Tables that are looked up, and norms, among the matrices of a family that is not known.
_NO_LINEAR = re.compile(r"embed|wpe|norm|score", re.IGNORECASE)


def shape_of(config: Mapping[str, Any], matrices: Mapping[str, tuple[int, int]] | None = None, parameters: int | None = None) -> ModelShape:
    """The shape of a causal language model. Raises ValueError naming the key that is missing or wrong.

    `matrices` and `parameters` from the weights' headers stand in for a family that is not known here, and for a text model
    that is a part of a larger one (images, sound).
    """
    text = config.get("text_config")
    inner = text if isinstance(text, Mapping) else config
    family = str(inner.get("model_type") or config.get("model_type") or "")
    architecture = _architecture(config) or family
    if family in _LLAMA_LIKE:
        shape = _llama_like(inner, family, architecture)
    elif family == "gpt2":
        shape = _gpt2(inner, architecture)
    elif family == "gpt_neox":
        shape = _gpt_neox(inner, architecture)
    else:
        return _from_headers(inner, family or "unknown", architecture, matrices or {}, parameters)
    return shape if inner is config or parameters is None else _counted(shape, parameters)


def _architecture(config: Mapping[str, Any]) -> str:
    names = config.get("architectures")
    return str(names[0]) if isinstance(names, list) and names else ""


def _llama_like(config: Mapping[str, Any], name: str, architecture: str) -> ModelShape:
    family = _LLAMA_LIKE[name]
    hidden, layers, vocabulary = (_size(config, key) for key in ("hidden_size", "num_hidden_layers", "vocab_size"))
    intermediate, heads = _size(config, "intermediate_size"), _size(config, "num_attention_heads")
    kv_heads = _size(config, "num_key_value_heads", family.kv_heads or heads)
    head = _size(config, "head_dim", family.head_dim or hidden // heads)
    queries, keys = heads * head, kv_heads * head
    bias = bool(config.get("attention_bias", family.attention_bias))
    output_bias = bias if family.output_bias is None else family.output_bias
    mlp_bias = bool(config.get("mlp_bias", family.mlp_bias))
    attention = (
        (Matrix("self_attn.qkv_proj", hidden, queries + 2 * keys, bias),)
        if family.fused
        else (
            Matrix("self_attn.q_proj", hidden, queries, bias),
            Matrix("self_attn.k_proj", hidden, keys, bias),
            Matrix("self_attn.v_proj", hidden, keys, bias),
        )
    )
    gate = (
        (Matrix("mlp.gate_up_proj", hidden, 2 * intermediate, mlp_bias),)
        if family.fused
        else (Matrix("mlp.gate_proj", hidden, intermediate, mlp_bias), Matrix("mlp.up_proj", hidden, intermediate, mlp_bias))
    )
    layer = (
        *attention,
        Matrix("self_attn.o_proj", queries, hidden, output_bias),
        *gate,
        Matrix("mlp.down_proj", intermediate, hidden, mlp_bias),
    )
    tied = bool(config.get("tie_word_embeddings", family.tied))
    norms = family.norms * hidden + (2 * head if family.head_norms else 0)
    body = layers * (sum(matrix.parameters for matrix in layer) + norms) + hidden
    return ModelShape(
        name, architecture, hidden, layers, vocabulary, intermediate, queries, keys, heads, _context(config), tied, layer,
        "model.layers.{}", _outer("model.embed_tokens", "lm_head", vocabulary, hidden, tied),
        body + vocabulary * hidden * (1 if tied else 2),
        norms_a_layer=family.norms, head_norms=family.head_norms, plain_head=_plain_head(config),
    )  # fmt: skip


def _gpt2(config: Mapping[str, Any], architecture: str) -> ModelShape:
    hidden, layers, vocabulary = (_size(config, *keys) for keys in (("n_embd", 768), ("n_layer", 12), ("vocab_size", 50257)))
    positions, heads = _size(config, "n_positions", 1024), _size(config, "n_head", 12)
    intermediate = _size(config, "n_inner", 4 * hidden)
    layer = (
        Matrix("attn.c_attn", hidden, 3 * hidden, True),
        Matrix("attn.c_proj", hidden, hidden, True),
        Matrix("mlp.c_fc", hidden, intermediate, True),
        Matrix("mlp.c_proj", intermediate, hidden, True),
    )
    tied = bool(config.get("tie_word_embeddings", True))
    body = layers * (sum(matrix.parameters for matrix in layer) + 4 * hidden) + 2 * hidden + positions * hidden
    return ModelShape(
        "gpt2", architecture, hidden, layers, vocabulary, intermediate, hidden, hidden, heads, positions, tied, layer, "transformer.h.{}",
        _outer("transformer.wte", "lm_head", vocabulary, hidden, tied), body + vocabulary * hidden * (1 if tied else 2), gated=False,
    )  # fmt: skip


def _gpt_neox(config: Mapping[str, Any], architecture: str) -> ModelShape:
    hidden, layers, vocabulary = (_size(config, key) for key in ("hidden_size", "num_hidden_layers", "vocab_size"))
    intermediate, heads = _size(config, "intermediate_size"), _size(config, "num_attention_heads")
    bias = bool(config.get("attention_bias", True))
    layer = (
        Matrix("attention.query_key_value", hidden, 3 * hidden, bias),
        Matrix("attention.dense", hidden, hidden, bias),
        Matrix("mlp.dense_h_to_4h", hidden, intermediate, True),
        Matrix("mlp.dense_4h_to_h", intermediate, hidden, True),
    )
    tied = bool(config.get("tie_word_embeddings", False))
    body = layers * (sum(matrix.parameters for matrix in layer) + 4 * hidden) + 2 * hidden
    return ModelShape(
        "gpt_neox", architecture, hidden, layers, vocabulary, intermediate, hidden, hidden, heads, _context(config), tied, layer,
        "gpt_neox.layers.{}", _outer("gpt_neox.embed_in", "embed_out", vocabulary, hidden, tied),
        body + vocabulary * hidden * (1 if tied else 2), gated=False,
    )  # fmt: skip


def _from_headers(
    config: Mapping[str, Any], family: str, architecture: str, matrices: Mapping[str, tuple[int, int]], parameters: int | None
) -> ModelShape:
    """A family that is not known: its matrices by the names in its weight files; sizes by the usual keys."""
    hidden = _size(config, "hidden_size", _number(config, "n_embd", "d_model", "dim"))
    layers = _size(config, "num_hidden_layers", _number(config, "n_layer", "num_layers", "n_layers"))
    heads = _size(config, "num_attention_heads", _number(config, "n_head", "n_heads"))
    vocabulary = _size(config, "vocab_size")
    head = _size(config, "head_dim", max(1, hidden // heads))
    intermediate = _size(config, "intermediate_size", _number(config, "n_inner", "ffn_dim", "d_ff") or 4 * hidden)
    experts = _number(config, "num_experts_per_tok") or 1
    tied = bool(config.get("tie_word_embeddings", False))
    found = tuple(
        Matrix(name.removesuffix(".weight"), shape[1], shape[0])
        for name, shape in matrices.items()
        if min(shape) > 1 and vocabulary not in shape and not _NO_LINEAR.search(name)
    )
    outer = tuple(
        Matrix(name.removesuffix(".weight"), shape[1], shape[0])
        for name, shape in matrices.items()
        if vocabulary in shape and min(shape) > 1
    )
    return ModelShape(
        family, architecture, hidden, layers, vocabulary, intermediate * experts, heads * head,
        _size(config, "num_key_value_heads", heads) * head, heads, _context(config), tied, found, "", outer, parameters,
        plain_head=_plain_head(config), guessed=(f"the family {family!r} is not known here: activations are those of a Llama of its size",),
    )  # fmt: skip


def _counted(shape: ModelShape, parameters: int) -> ModelShape:
    return replace(shape, parameters=parameters)


def _outer(embedding: str, head: str, vocabulary: int, hidden: int, tied: bool) -> tuple[Matrix, ...]:
    inner = Matrix(embedding, vocabulary, hidden)
    return (inner,) if tied else (inner, Matrix(head, hidden, vocabulary))


def _plain_head(config: Mapping[str, Any]) -> bool:
    return all(config.get(name) in (None, 1.0) for name in _LOGIT_SETTINGS)


def _context(config: Mapping[str, Any]) -> int | None:
    return _number(config, "max_position_embeddings", "n_positions")


def _number(config: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _size(config: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = config.get(name)
    if value is None:
        value = default
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 1 << 40:
        raise ValueError(f"config.json: {name} is {value!r}, not a whole number above 0")
    return value
