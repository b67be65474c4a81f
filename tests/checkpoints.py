"""Tiny checkpoints with random weights, made from the real classes: what tests load in place of gigabytes.

Each function fills a folder as the model's makers publish it (config, tokenizer with its chat template, generation
settings, safetensors) or writes the GGUF files that llama.cpp's converter would make of it. Their vocabulary is the 256
bytes, one merge, and the control tokens of the family.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    CohereAsrConfig,
    CohereAsrFeatureExtractor,
    CohereAsrForConditionalGeneration,
    CohereAsrProcessor,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3_5Config,
    Qwen3_5ForCausalLM,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5TextConfig,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

PLAIN_TEMPLATE = "{% for message in messages %}<|start|>{{ message.content }}<|end|>{% endfor %}<|start|>"

QWEN_TEMPLATE = """\
{%- for message in messages %}<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content -%}
{%- if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif -%}
{%- endfor %}{% endif %}<|im_end|>
{% endfor %}<|im_start|>assistant
<think>
{% if enable_thinking is defined and enable_thinking is false %}

</think>

{% endif %}"""
"""How Qwen3.5 speaks, without tools: reasoning is begun, or already over."""

HARMONY_TEMPLATE = """\
<|start|>system<|message|>Reasoning: {{ reasoning_effort | default('medium') }}<|end|>
{%- for message in messages %}<|start|>{{ message.role }}<|message|>{{ message.content }}<|end|>{% endfor -%}
<|start|>assistant"""
"""How gpt-oss speaks, without tools."""

PLAIN_TOKENS = ("<|start|>", "<|end|>")
QWEN_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
QWEN_WORDS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
"""Tokens of their own that are text all the same."""
HARMONY_TOKENS = (
    "<|startoftext|>",
    "<|endoftext|>",
    "<|return|>",
    "<|channel|>",
    "<|start|>",
    "<|end|>",
    "<|message|>",
    "<|call|>",
)

_BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())
_MERGED = "Ġa"
_FIRST_SPECIAL = len(_BYTES) + 1

TRAINED = 262_144
"""Longest context of the tiny Qwen3.5 and gpt-oss."""

VISION: Mapping[str, Any] = {
    "depth": 2,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_heads": 2,
    "patch_size": 16,
    "spatial_merge_size": 2,
    "num_position_embeddings": 64,
}


def _save_tokenizer(
    folder: Path, control: Sequence[str], words: Sequence[str], template: str | None, **special: str
) -> dict[str, int]:
    """Ids of the added tokens."""
    vocabulary = {token: index for index, token in enumerate([*_BYTES, _MERGED])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[(_MERGED[0], _MERGED[1])]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in control])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in words])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    fast.chat_template = template
    fast.save_pretrained(folder)
    return {token: _FIRST_SPECIAL + index for index, token in enumerate([*control, *words])}


def write_plain(folder: Path, *, template: str | None = PLAIN_TEMPLATE, context: int = 600, seed: int = 0) -> None:
    """A Llama of two layers."""
    ids = _save_tokenizer(folder, PLAIN_TOKENS, (), template, bos_token="<|start|>", eos_token="<|end|>")
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=_FIRST_SPECIAL + len(ids),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=context,
        initializer_range=0.5,
        bos_token_id=ids["<|start|>"],
        eos_token_id=ids["<|end|>"],
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def qwen_text(**more: Any) -> dict[str, Any]:
    """Settings of Qwen3.5's language model: a layer of full attention after three of linear attention."""
    return {
        "vocab_size": _FIRST_SPECIAL + len(QWEN_TOKENS) + len(QWEN_WORDS),
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "max_position_embeddings": TRAINED,
        "initializer_range": 0.2,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10_000_000,
            "partial_rotary_factor": 0.5,
            "mrope_section": [3, 3, 2],
            "mrope_interleaved": True,
        },
        **more,
    }


def write_qwen(folder: Path, *, vision: bool = True, seed: int = 0, **more: Any) -> None:
    """Qwen3.5, with its eyes or without. more: other settings of the language model."""
    ids = _save_tokenizer(
        folder, QWEN_TOKENS, QWEN_WORDS, QWEN_TEMPLATE, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    ends = {"eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"]}
    torch.manual_seed(seed)
    text = Qwen3_5TextConfig(**qwen_text(**ends, **more))
    if vision:
        config = Qwen3_5Config(
            text_config=text.to_dict(),
            vision_config={**VISION, "out_hidden_size": text.hidden_size, "initializer_range": 0.2},
            image_token_id=ids["<|image_pad|>"],
            video_token_id=ids["<|video_pad|>"],
            vision_start_token_id=ids["<|vision_start|>"],
            vision_end_token_id=ids["<|vision_end|>"],
        )
        model: Any = Qwen3_5ForConditionalGeneration(config)
        Qwen2VLImageProcessorPil(
            patch_size=16,
            merge_size=2,
            size={"shortest_edge": 65_536, "longest_edge": 16_777_216},
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
        ).save_pretrained(folder)
    else:
        model = Qwen3_5ForCausalLM(text)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 and "A_log" not in name:
            # Fresh norms and biases are all alike, which would hide what is done wrong with them.
            torch.nn.init.normal_(parameter, std=0.2)
        elif "embed_tokens" in name:
            # Else an answer would hang on the last token alone, and hardly on what came before it.
            torch.nn.init.normal_(parameter, std=0.05)
        elif "o_proj" in name or "out_proj" in name or "merger" in name:
            torch.nn.init.normal_(parameter, std=1)
    model.generation_config.eos_token_id = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    model.to(torch.bfloat16).save_pretrained(folder)


def write_fp8(source: Path, folder: Path, block: int = 32) -> None:
    """A copy of a folder with the linear layers of its language model in FP8, as Qwen publishes them: a scale for each
    block, multiplied where it is unpacked.
    """
    folder.mkdir(exist_ok=True)
    for path in source.iterdir():
        if path.suffix != ".safetensors":
            shutil.copyfile(path, folder / path.name)
    kept = ("visual", "embed_tokens", "lm_head", "norm", "conv1d", "in_proj_a", "in_proj_b")
    tensors = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        if tensor.ndim != 2 or any(part in name for part in kept):
            tensors[name] = tensor
            continue
        rows, columns = (-(-size // block) for size in tensor.shape)
        padded = torch.zeros(rows * block, columns * block)
        padded[: tensor.shape[0], : tensor.shape[1]] = tensor
        blocks = padded.unflatten(1, (columns, block)).unflatten(0, (rows, block))
        scales = blocks.abs().amax((1, 3)) / 448
        packed = (blocks / scales[:, None, :, None]).flatten(0, 1).flatten(1, 2)[: tensor.shape[0], : tensor.shape[1]]
        tensors[name] = packed.to(torch.float8_e4m3fn).contiguous()
        tensors[f"{name}_scale_inv"] = scales.to(torch.bfloat16)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "fp8",
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "weight_block_size": [block, block],
        "modules_to_not_convert": sorted(
            {
                name.removesuffix(".weight")
                for name in tensors
                if name.endswith(".weight") and any(k in name for k in kept)
            }
        ),
    }
    (folder / "config.json").write_text(json.dumps(config))


def write_gpt_oss(folder: Path, *, seed: int = 0) -> None:
    """gpt-oss in bf16: a layer with a sliding window and one without, four experts."""
    ids = _save_tokenizer(
        folder, HARMONY_TOKENS, (), HARMONY_TEMPLATE, bos_token="<|startoftext|>", eos_token="<|return|>"
    )
    torch.manual_seed(seed)
    config = GptOssConfig(
        vocab_size=_FIRST_SPECIAL + len(ids),
        hidden_size=64,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=16,
        max_position_embeddings=131_072,
        initializer_range=0.3,
        bos_token_id=ids["<|startoftext|>"],
        eos_token_id=ids["<|return|>"],
    )
    model = GptOssForCausalLM(config)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 or "bias" in name or "experts" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.generation_config.eos_token_id = [ids["<|return|>"], ids["<|endoftext|>"], ids["<|call|>"]]
    model.to(torch.bfloat16).save_pretrained(folder)


COHERE_LANGUAGES = ("ar", "de", "el", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "vi", "zh")


def write_cohere(folder: Path) -> None:
    """Cohere's speech recognition. It speaks in words, which depend on sound and language, and does not end by
    itself.
    """
    special = [
        "<unk>",
        "<pad>",
        "<|endoftext|>",
        "<|startofcontext|>",
        "<|startoftranscript|>",
        "<|emo:undefined|>",
        "<|pnc|>",
        "<|nopnc|>",
        "<|noitn|>",
        "<|notimestamp|>",
        "<|nodiarize|>",
        *(f"<|{language}|>" for language in COHERE_LANGUAGES),
    ]
    vocabulary = {token: number for number, token in enumerate([*special, "▁", *(f"▁w{n}" for n in range(20))])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="<unk>",
        pad_token="<pad>",
        eos_token="<|endoftext|>",
        additional_special_tokens=special[3:],
    )
    tiny = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = CohereAsrConfig(
        **tiny,
        vocab_size=len(vocabulary),
        max_position_embeddings=32,
        pad_token_id=vocabulary["<pad>"],
        eos_token_id=vocabulary["<|endoftext|>"],
        bos_token_id=vocabulary["<|startoftranscript|>"],
        decoder_start_token_id=vocabulary["<|startoftranscript|>"],
        encoder_config={**tiny, "subsampling_conv_channels": 8, "num_mel_bins": 16},
    )
    torch.manual_seed(1)
    network = CohereAsrForConditionalGeneration(config)
    for weights in network.parameters():
        if weights.dim() > 1:
            weights.data *= 30.0  # or every sound would give the same words
    network.proj_out.bias.data[: len(special) + 1] = -100.0
    network.save_pretrained(folder)
    CohereAsrProcessor(CohereAsrFeatureExtractor(feature_size=16), tokenizer).save_pretrained(folder)


# GGUF


def write_qwen_gguf(folder: Path, model: Path, projector: Path | None = None, *, template: str = QWEN_TEMPLATE) -> None:
    """What llama.cpp's converter makes of a folder of `write_qwen`: the language model, and its eyes."""
    tensors = _tensors(folder)
    _write_qwen_text(folder, model, tensors, template)
    if projector is not None:
        _write_qwen_vision(folder, projector, tensors)


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}


def _write_qwen_text(folder: Path, path: Path, tensors: Mapping[str, torch.Tensor], template: str) -> None:
    config = AutoConfig.from_pretrained(folder).get_text_config()
    keys, values = config.linear_num_key_heads, config.linear_num_value_heads
    rope = config.rope_parameters
    writer = gguf.GGUFWriter(path, "qwen35")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(int(config.head_dim * rope["partial_rotary_factor"]))
    writer.add_rope_dimension_sections([*rope["mrope_section"], 0])
    writer.add_ssm_conv_kernel(config.linear_conv_kernel_dim)
    writer.add_ssm_state_size(config.linear_key_head_dim)
    writer.add_ssm_group_count(keys)
    writer.add_ssm_time_step_rank(values)
    writer.add_ssm_inner_size(config.linear_value_head_dim * values)
    writer.add_full_attention_interval(4)
    _add_tokenizer(writer, QWEN_TOKENS, QWEN_WORDS, template, end="<|im_end|>")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN35, config.num_hidden_layers)
    for name, tensor in tensors.items():
        plain = name.replace("model.language_model.", "model.")
        if plain.startswith("model.visual."):
            continue
        if plain.endswith("A_log"):
            tensor = -tensor.exp()
        elif plain.endswith("dt_bias"):
            plain = plain.replace("dt_bias", "dt_proj.bias")
        elif "conv1d" in plain:
            tensor = tensor.squeeze(1)
        elif plain.endswith("norm.weight") and "linear_attn" not in plain:
            tensor = tensor + 1
        written = names.get_name(plain, try_suffixes=(".weight", ".bias"))
        assert written is not None, plain
        writer.add_tensor(written, _tiled(plain, tensor, config).contiguous().numpy())
    _finish(writer)


def _tiled(name: str, tensor: torch.Tensor, config: Any) -> torch.Tensor:
    """Value heads stand by the key head that they belong to; ggml repeats key heads as a whole, so they alternate."""
    keys, values = config.linear_num_key_heads, config.linear_num_value_heads
    head = config.linear_value_head_dim

    def reordered(part: torch.Tensor, size: int) -> torch.Tensor:
        return part.reshape(keys, values // keys, size, -1).transpose(0, 1).reshape(part.shape)

    if "linear_attn" not in name or keys == values:
        return tensor
    if "in_proj_qkv" in name or "conv1d" in name:
        first = 2 * keys * config.linear_key_head_dim
        return torch.cat([tensor[:first], reordered(tensor[first:], head)])
    if "in_proj_z" in name:
        return reordered(tensor, head)
    if "out_proj" in name:
        return reordered(tensor.T, head).T
    if any(part in name for part in ("in_proj_a", "in_proj_b", "A_log", "dt_proj")):
        return reordered(tensor, 1)
    return tensor


def _write_qwen_vision(folder: Path, path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    config = AutoConfig.from_pretrained(folder)
    vision = config.vision_config
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_clip_has_vision_encoder(True)
    writer.add_clip_projector_type(gguf.VisionProjectorType.QWEN3VL)
    writer.add_vision_use_gelu(True)
    writer.add_vision_image_size(int(vision.num_position_embeddings**0.5) * vision.patch_size)
    writer.add_vision_patch_size(vision.patch_size)
    writer.add_vision_embedding_length(vision.hidden_size)
    writer.add_vision_feed_forward_length(vision.intermediate_size)
    writer.add_vision_projection_dim(vision.out_hidden_size)
    writer.add_vision_block_count(vision.depth)
    writer.add_vision_head_count(vision.num_heads)
    writer.add_vision_spatial_merge_size(vision.spatial_merge_size)
    writer.add_vision_attention_layernorm_eps(config.text_config.rms_norm_eps)
    writer.add_vision_image_mean([0.5] * 3)
    writer.add_vision_image_std([0.5] * 3)
    writer.add_vision_is_deepstack_layers([False] * vision.depth)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, vision.depth)
    merger = {"merger.linear_fc1": "mm.0", "merger.linear_fc2": "mm.2", "merger.norm": "v.post_ln"}
    for name, tensor in tensors.items():
        if not name.startswith("model.visual."):
            continue
        plain, _, suffix = name.removeprefix("model.").rpartition(".")
        if plain == "visual.patch_embed.proj" and suffix == "weight":
            writer.add_tensor("v.patch_embd.weight", tensor[:, :, 0].contiguous().numpy())
            writer.add_tensor("v.patch_embd.weight.1", tensor[:, :, 1].contiguous().numpy())
            continue
        written = merger.get(plain.removeprefix("visual.")) or names.get_name(plain)
        assert written is not None, name
        writer.add_tensor(f"{written}.{suffix}", tensor.numpy())
    _finish(writer)


def _add_tokenizer(
    writer: gguf.GGUFWriter, control: Sequence[str], words: Sequence[str], template: str, *, end: str
) -> None:
    tokens = [*_BYTES, _MERGED, *control, *words]
    kinds = [gguf.TokenType.NORMAL] * _FIRST_SPECIAL
    kinds += [gguf.TokenType.CONTROL] * len(control) + [gguf.TokenType.USER_DEFINED] * len(words)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen35")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(_MERGED)])
    writer.add_eos_token_id(tokens.index(end))
    writer.add_chat_template(template)


def _finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_llama_gguf(
    path: Path, *, template: str | None = None, temperature: float | None = None, window: int | None = None
) -> None:
    """A Llama of one layer in float32, over a vocabulary of bytes in SentencePiece's way.

    window: of its attention, in tokens; it is a Gemma 3 then
    """
    width, vocabulary = 32, 3 + 256
    writer = gguf.GGUFWriter(path, "llama" if window is None else "gemma3")
    norms = ["attn_norm", "ffn_norm"]
    if window is not None:
        writer.add_sliding_window(window)
        writer.add_key_length(width)
        writer.add_value_length(width)
        norms += ["attn_q_norm", "attn_k_norm", "post_attention_norm", "post_ffw_norm"]
    writer.add_context_length(256)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(width)
    writer.add_head_count(1)
    writer.add_head_count_kv(1)
    writer.add_rope_dimension_count(width)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))])
    writer.add_token_scores([0.0] * vocabulary)
    writer.add_token_types(
        [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL, *[gguf.TokenType.BYTE] * 256]
    )
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    if template is not None:
        writer.add_chat_template(template)
    if temperature is not None:
        writer.add_float32("general.sampling.temp", temperature)
    random = np.random.default_rng(0)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
        writer.add_tensor(f"blk.0.{name}.weight", random.standard_normal((width, width), dtype=np.float32))
    for name in (*(f"blk.0.{norm}" for norm in norms), "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(width, dtype=np.float32))
    for name in ("token_embd", "output"):
        writer.add_tensor(f"{name}.weight", random.standard_normal((vocabulary, width), dtype=np.float32))
    _finish(writer)
