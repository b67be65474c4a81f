"""Turns a Whisper model in CTranslate2's layout into a folder that transformers loads."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from demo.ctranslate2 import Array, InvalidModel, read_model

_RENAMED = (
    (r"^(encoder|decoder)/layer_(\d+)/", r"model.\1.layers.\2."),
    (r"^(encoder|decoder)/", r"model.\1."),
    (r"position_encodings/encodings$", "embed_positions.weight"),
    (r"embeddings/weight$", "embed_tokens.weight"),
    (r"\bself_attention/layer_norm/", "self_attn_layer_norm/"),
    (r"\battention/layer_norm/", "encoder_attn_layer_norm/"),
    (r"ffn/layer_norm/", "final_layer_norm/"),
    (r"ffn/linear_0/", "fc1/"),
    (r"ffn/linear_1/", "fc2/"),
    (r"\bself_attention/", "self_attn/"),
    (r"\battention/", "encoder_attn/"),
    (r"gamma$", "weight"),
    (r"beta$", "bias"),
    (r"/", "."),
)
"""CTranslate2's names to those of transformers, applied one after the other."""

_FUSED = {
    ("self_attn", 0): ("q_proj", "k_proj", "v_proj"),
    ("self_attn", 1): ("out_proj",),
    ("encoder_attn", 0): ("q_proj",),
    ("encoder_attn", 1): ("k_proj", "v_proj"),
    ("encoder_attn", 2): ("out_proj",),
}
"""CTranslate2 stacks an attention's projections into one matrix."""


def convert(model: BinaryIO, details: Mapping[str, Any], tokenizer: Path, folder: Path) -> None:
    """Write config, generation config, processor, tokenizer and float32 weights into `folder`.

    model: CTranslate2's model.bin
    details: its config.json, which holds alignment heads, languages and suppressed tokens
    tokenizer: tokenizer.json, as transformers reads it

    Raises InvalidModel when this is no Whisper.
    """
    # Slow to import, and needed only in the one run that converts.
    import torch
    from safetensors.torch import save_file
    from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor, WhisperTokenizer

    name, variables = read_model(model)
    if name != "WhisperSpec":
        raise InvalidModel(f"this is a {name}, not a Whisper")
    tokens = {token["content"]: token["id"] for token in json.loads(tokenizer.read_text())["added_tokens"]}

    WhisperConfig(**shape_config(variables), **_special_ids(tokens), dtype="float32").save_pretrained(folder)
    GenerationConfig(**generation_config(details, tokens)).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=variables["encoder/conv1/weight"].shape[1]).save_pretrained(folder)
    WhisperTokenizer.from_pretrained(
        tokenizer.parent, model_max_length=variables["decoder/position_encodings/encodings"].shape[0]
    ).save_pretrained(folder)
    weights = {name: torch.from_numpy(array.astype(np.float32)) for name, array in rename(variables)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def rename(variables: Mapping[str, Array]) -> Iterator[tuple[str, Array]]:
    """The weights under the names of transformers' WhisperForConditionalGeneration, projections taken apart."""
    for source, array in variables.items():
        if array.ndim == 0 or source == "decoder/projection/weight" or source.startswith("decoder/alignment"):
            continue  # numbers that the configuration repeats; the output matrix is the tokens' embedding
        name = source
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        fused = re.fullmatch(r"(.*\.)(self_attn|encoder_attn)\.linear_(\d)\.(weight|bias)", name)
        if fused is None:
            yield name, array
            continue
        prefix, attention, index, kind = fused.groups()
        projections = _FUSED[attention, int(index)]
        for projection, part in zip(projections, np.split(array, len(projections)), strict=True):
            if (projection, kind) != ("k_proj", "bias"):  # Whisper has none; CTranslate2 stores zeros
                yield f"{prefix}{attention}.{projection}.{kind}", part


def shape_config(variables: Mapping[str, Array]) -> dict[str, int]:
    """The sizes of the model, read off its weights."""
    vocabulary, width = variables["decoder/embeddings/weight"].shape
    return {
        "vocab_size": vocabulary,
        "d_model": width,
        "num_mel_bins": variables["encoder/conv1/weight"].shape[1],
        "max_source_positions": variables["encoder/position_encodings/encodings"].shape[0],
        "max_target_positions": variables["decoder/position_encodings/encodings"].shape[0],
    } | {
        f"{side}_{key}": value
        for side in ("encoder", "decoder")
        for key, value in {
            "layers": sum(
                name.startswith(f"{side}/layer_") and name.endswith("ffn/linear_0/bias") for name in variables
            ),
            "attention_heads": int(variables[f"{side}/num_heads"]),
            "ffn_dim": variables[f"{side}/layer_0/ffn/linear_0/bias"].shape[0],
        }.items()
    }


def generation_config(details: Mapping[str, Any], tokens: Mapping[str, int]) -> dict[str, Any]:
    """What transformers' Whisper needs to know to generate, beside the weights."""
    names = {number: token for token, number in tokens.items()}
    return {
        **_special_ids(tokens),
        "alignment_heads": details["alignment_heads"],
        "begin_suppress_tokens": details["suppress_ids_begin"],
        "suppress_tokens": details["suppress_ids"],
        "is_multilingual": True,
        "lang_to_id": {names[number]: number for number in details["lang_ids"]},
        "task": "transcribe",  # without it and without a language, transformers leaves the task's token out
        "task_to_id": {task: tokens[f"<|{task}|>"] for task in ("transcribe", "translate")},
        "no_timestamps_token_id": tokens["<|notimestamps|>"],
        "prev_sot_token_id": tokens["<|startofprev|>"],
        "max_initial_timestamp_index": 50,
        "max_length": 448,
        "return_timestamps": False,
    }


def _special_ids(tokens: Mapping[str, int]) -> dict[str, int]:
    end = tokens["<|endoftext|>"]
    return {
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": tokens["<|startoftranscript|>"],
    }
