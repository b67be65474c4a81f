"""SmolLM2-135M for both chat runtimes: the demo's GGUF, and a safetensors folder made of it once, beside it."""

import tempfile
from pathlib import Path

import gguf
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from demo.models import cache_folder

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"

_FOLDER = "smollm2-135m-safetensors"

_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def safetensors_folder(models: Path | None = None) -> Path:
    """Its path; made where it is not there yet, which takes half a minute. models: where the demo's models are."""
    models = models or cache_folder()
    if not (models / _FOLDER).is_dir():
        with tempfile.TemporaryDirectory(dir=models, prefix="making-") as name:
            made = Path(name) / _FOLDER
            made.mkdir()
            _write(models / "smollm2-135m", made)
            made.rename(models / _FOLDER)
    return models / _FOLDER


def _write(source: Path, target: Path) -> None:
    """In bfloat16, as it was trained. What transformers reads from a GGUF by itself stays packed and is not saved."""
    config = AutoConfig.from_pretrained(source, gguf_file=GGUF)
    config.dtype = "bfloat16"
    config.save_pretrained(target)
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
    tokenizer.save_pretrained(target)
    GenerationConfig(eos_token_id=tokenizer.eos_token_id).save_pretrained(target)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    tensors = {}
    for tensor in gguf.GGUFReader(source / GGUF).tensors:
        weights = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())
        name = tensor.name.removesuffix(".weight")
        if name == "token_embd":
            name = "model.embed_tokens"
        elif name == "output_norm":
            name = "model.norm"
        else:
            _, layer, part = name.split(".")
            if part in heads:  # llama.cpp turns neighbours, transformers halves
                weights = weights.unflatten(0, (heads[part], -1, 2)).transpose(1, 2).flatten(0, 2)
            name = f"model.layers.{layer}.{_NAMES[part]}"
        tensors[f"{name}.weight"] = weights.to(torch.bfloat16).contiguous()
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
