"""What a first load will take, from the files alone: weights, cache, projector, and what the runtime works with.

It is the most that the model will hold, when every sequence is as long as it may be. What transformers takes up little
by little counts from the start, because room that is promised to nobody is room that somebody else loads into.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vram.headers import Tensor, read_gguf, read_safetensors
from vram.model import Files

WORKING_BYTES: Mapping[str, int] = {
    "transformers": 600_000_000,
    "llama.cpp": 400_000_000,
    "chatterbox": 1_000_000_000,
}
"""What each runtime holds beside weights and cache, at most. Reckoned, not measured: the libraries' workspaces and
kernels, and for transformers the activations of one step of a prompt and of an image; for llama.cpp its compute buffer,
which holds the logits of a step (256 tokens of a vocabulary of 248,320 are 0.25 GB); for chatterbox the cache of its 30
layers in float32, twice because it is guided, and the vocoder's activations. The CUDA context is not in it: it belongs
to the process.
"""

KEPT_STATES = 2
"""Sequences of a model with recurrent layers that llama.cpp keeps after their end, beside those that it computes: the
next turns of conversations. Their keys and values lie in cells that are there anyway, their states are not.
"""

_LOOKING_BYTES = 500_000_000
"""What a projector's compute buffer holds at its largest image. Qwen3.5's takes 248 MiB for 1472 x 1472 pixels (seen on
the CPU, with random weights of its sizes), and grows with them up to 4,096 tokens, which are 2048 x 2048 pixels.
"""

_CACHE_BYTES = 2
"""A key or value: bfloat16 or float16 in both runtimes that have a cache."""

_STATE_BYTES = 4
"""A recurrent state is kept in float32."""

_NOT_LOADED = ("mtp.",)
"""Tensors that transformers leaves in the file: heads that predict several tokens at once."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """weights_bytes: as they are held, which is not always as they are stored; cache_bytes: at full context."""

    weights_bytes: int
    cache_bytes: int
    projector_bytes: int
    working_bytes: int

    @property
    def bytes(self) -> int:
        return self.weights_bytes + self.cache_bytes + self.projector_bytes + self.working_bytes


def predict(files: Files) -> Prediction | None:
    """None where the files are not there, cannot be understood, or belong to a runtime that nothing is known of."""
    if not files.weights or files.runtime not in WORKING_BYTES:
        return None
    try:
        return _of_gguf(files) if files.runtime == "llama.cpp" else _of_checkpoint(files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
        return None


def _of_checkpoint(files: Files) -> Prediction:
    weights_bytes = 0
    for path in (shard for each in files.weights for shard in _shards(each)):
        if path.suffix == ".safetensors":
            weights_bytes += sum(
                _held_bytes(name, tensor, files.runtime)
                for name, tensor in read_safetensors(path).items()
                if not name.startswith(_NOT_LOADED)
            )
        else:
            weights_bytes += path.stat().st_size
    config = {} if files.config is None else json.loads(files.config.read_text(encoding="utf-8"))
    text = config.get("text_config", config)
    return Prediction(
        weights_bytes=weights_bytes,
        cache_bytes=_cache_bytes(text, files.context) * files.sequences,
        projector_bytes=0,
        working_bytes=WORKING_BYTES[files.runtime] + _repeated_bytes(text, files.context),
    )


def _shards(path: Path) -> list[Path]:
    """The files that a checkpoint lies in: itself, or those that its index names."""
    index = path.with_name(f"{path.name}.index.json")
    if not index.is_file():
        return [path]
    return [path.with_name(name) for name in sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))]


def _held_bytes(name: str, tensor: Tensor, runtime: str) -> int:
    """transformers loads float32 as a 16-bit type on a GPU, and keeps what is smaller, such as FP8 and MXFP4, packed,
    with its scales as they are; chatterbox computes in float32.
    """
    if runtime == "transformers" and tensor.dtype == "F32" and not name.endswith("_scale_inv"):
        return tensor.bytes // 2
    return tensor.bytes


def _cache_bytes(text: Mapping[str, Any], context: int) -> int:
    """Of one sequence. text: the language model's part of a config.json."""
    if not context:
        return 0
    context = min(context, text.get("max_position_embeddings") or context)
    layers = text.get("layer_types") or ["full_attention"] * text["num_hidden_layers"]
    token_bytes = _token_bytes(text, text.get("num_key_value_heads") or text["num_attention_heads"])
    window = min(context, text.get("sliding_window") or context)
    taken = 0
    for layer in layers:
        match layer:
            case "linear_attention":
                taken += _state_bytes(text)
            case "sliding_attention" | "chunked_attention":
                taken += window * token_bytes
            case _:
                taken += context * token_bytes
    return taken


def _token_bytes(text: Mapping[str, Any], heads: int) -> int:
    """Of the key and value of one token in one layer, for so many heads."""
    head_dim = text.get("head_dim") or text["hidden_size"] // text["num_attention_heads"]
    return int(2 * heads * head_dim * _CACHE_BYTES)


def _repeated_bytes(text: Mapping[str, Any], context: int) -> int:
    """Of one layer's keys and values, written out for every head that shares them: so transformers computes a step of a
    prompt, because torch's attention on a GPU takes a mask or shared heads, not both.
    """
    if not context:
        return 0
    context = min(context, text.get("max_position_embeddings") or context)
    return context * _token_bytes(text, text["num_attention_heads"])


def _state_bytes(text: Mapping[str, Any]) -> int:
    """Of one linear-attention layer: the last inputs of its convolution, and its recurrent state."""
    keys = text["linear_num_key_heads"] * text["linear_key_head_dim"]
    values = text["linear_num_value_heads"] * text["linear_value_head_dim"]
    convolution = (2 * keys + values) * text["linear_conv_kernel_dim"] * _CACHE_BYTES
    return int(convolution + values * text["linear_key_head_dim"] * _STATE_BYTES)


def _of_gguf(files: Files) -> Prediction:
    (path,) = files.weights
    gguf = read_gguf(path)
    weights_bytes = sum(gguf.tensors.values())
    if "output.weight" in gguf.tensors:  # else the embedding is the output layer too, and goes to the GPU with it
        weights_bytes -= gguf.tensors["token_embd.weight"]
    return Prediction(
        weights_bytes=weights_bytes,
        cache_bytes=_gguf_cache_bytes(gguf.metadata, files.context, files.sequences),
        projector_bytes=0 if files.projector is None else sum(read_gguf(files.projector).tensors.values()),
        working_bytes=WORKING_BYTES[files.runtime] + (0 if files.projector is None else _LOOKING_BYTES),
    )


def _gguf_cache_bytes(metadata: Mapping[str, Any], context: int, sequences: int) -> int:
    """A sliding window saves nothing here: llama.cpp's choice depends on how it was built."""
    architecture = metadata["general.architecture"]

    def get(name: str, default: Any = None) -> Any:
        return metadata.get(f"{architecture}.{name}", default)

    layers = get("block_count")
    heads = get("attention.head_count")
    key_heads = get("attention.head_count_kv", heads)
    per_layer = key_heads if isinstance(key_heads, list) else [key_heads] * layers
    head_dim = get("embedding_length") // (max(heads) if isinstance(heads, list) else heads)
    token_bytes = (get("attention.key_length", head_dim) + get("attention.value_length", head_dim)) * _CACHE_BYTES
    context = min(context, get("context_length", context))
    state_bytes = 0
    if get("ssm.state_size") is not None:
        interval = get("full_attention_interval", 4)
        per_layer = [heads if (layer + 1) % interval == 0 else 0 for layer, heads in enumerate(per_layer)]
        state, inner, groups = get("ssm.state_size"), get("ssm.inner_size"), get("ssm.group_count", 0)
        convolution = (get("ssm.conv_kernel") - 1) * (inner + 2 * groups * state)
        state_bytes = per_layer.count(0) * (convolution + state * inner) * _STATE_BYTES
    return int(sum(per_layer) * token_bytes * context * sequences + state_bytes * (sequences + KEPT_STATES))
