import json
from pathlib import Path

import numpy as np

from demo.ctranslate2 import Array
from demo.whisper import generation_config, rename, shape_config

TOKENS = {
    "<|endoftext|>": 50257,
    "<|startoftranscript|>": 50258,
    "<|en|>": 50259,
    "<|de|>": 50261,
    "<|translate|>": 50358,
    "<|transcribe|>": 50359,
    "<|startofprev|>": 50361,
    "<|notimestamps|>": 50363,
}


def renamed(variables: dict[str, Array]) -> dict[str, Array]:
    return dict(rename(variables))


def test_names_become_those_of_transformers() -> None:
    names = {
        "encoder/conv1/weight": "model.encoder.conv1.weight",
        "encoder/position_encodings/encodings": "model.encoder.embed_positions.weight",
        "encoder/layer_norm/gamma": "model.encoder.layer_norm.weight",
        "encoder/layer_3/self_attention/layer_norm/beta": "model.encoder.layers.3.self_attn_layer_norm.bias",
        "decoder/embeddings/weight": "model.decoder.embed_tokens.weight",
        "decoder/layer_0/attention/layer_norm/gamma": "model.decoder.layers.0.encoder_attn_layer_norm.weight",
        "decoder/layer_0/ffn/layer_norm/gamma": "model.decoder.layers.0.final_layer_norm.weight",
        "decoder/layer_0/ffn/linear_0/bias": "model.decoder.layers.0.fc1.bias",
        "decoder/layer_0/ffn/linear_1/weight": "model.decoder.layers.0.fc2.weight",
        "decoder/layer_5/attention/linear_2/weight": "model.decoder.layers.5.encoder_attn.out_proj.weight",
    }

    assert list(renamed({name: np.zeros(2) for name in names})) == list(names.values())


def test_stacked_projections_are_taken_apart_in_order() -> None:
    stacked = np.arange(12).reshape(6, 2)

    parts = renamed({"decoder/layer_0/self_attention/linear_0/weight": stacked})

    prefix = "model.decoder.layers.0.self_attn"
    assert list(parts) == [f"{prefix}.q_proj.weight", f"{prefix}.k_proj.weight", f"{prefix}.v_proj.weight"]
    np.testing.assert_array_equal(np.concatenate(list(parts.values())), stacked)


def test_keys_lose_the_bias_that_whisper_does_not_have() -> None:
    parts = renamed({"decoder/layer_0/attention/linear_1/bias": np.array([0, 0, 7, 8])})

    assert list(parts) == ["model.decoder.layers.0.encoder_attn.v_proj.bias"]
    np.testing.assert_array_equal(parts["model.decoder.layers.0.encoder_attn.v_proj.bias"], [7, 8])


def test_numbers_and_the_tied_output_matrix_are_left_out() -> None:
    assert not renamed({"decoder/num_heads": np.array(8), "decoder/projection/weight": np.zeros((3, 2))})


def test_sizes_are_read_off_the_weights() -> None:
    side: dict[str, Array] = {"layer_0/ffn/linear_0/bias": np.zeros(16), "num_heads": np.array(2, np.int16)}
    variables: dict[str, Array] = {
        **{f"encoder/{name}": array for name, array in side.items()},
        **{f"decoder/{name}": array for name, array in side.items()},
        "decoder/layer_1/ffn/linear_0/bias": np.zeros(16),
        "encoder/conv1/weight": np.zeros((4, 80, 3)),
        "encoder/position_encodings/encodings": np.zeros((1500, 4)),
        "decoder/position_encodings/encodings": np.zeros((448, 4)),
        "decoder/embeddings/weight": np.zeros((100, 4)),
    }

    assert shape_config(variables) == {
        "vocab_size": 100,
        "d_model": 4,
        "num_mel_bins": 80,
        "max_source_positions": 1500,
        "max_target_positions": 448,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 16,
        "decoder_ffn_dim": 16,
    }


def test_the_generation_config_knows_languages_tasks_and_alignment() -> None:
    details = {
        "alignment_heads": [[3, 1]],
        "lang_ids": [50259, 50261],
        "suppress_ids": [1, 2],
        "suppress_ids_begin": [220, 50257],
    }

    config = generation_config(details, TOKENS)

    assert config["lang_to_id"] == {"<|en|>": 50259, "<|de|>": 50261}
    assert config["task_to_id"] == {"transcribe": 50359, "translate": 50358}
    assert config["alignment_heads"] == [[3, 1]]
    assert config["no_timestamps_token_id"] == 50363
    assert config["is_multilingual"]


def test_the_converted_model_is_whole(demo_models: Path) -> None:
    """What the gateway's runtime and its word timestamps read."""
    folder = demo_models / "whisper-base"
    config = json.loads((folder / "config.json").read_text())
    generation = json.loads((folder / "generation_config.json").read_text())

    assert (config["encoder_layers"], config["d_model"], config["dtype"]) == (6, 512, "float32")
    assert len(generation["lang_to_id"]) == 99
    assert len(generation["alignment_heads"]) == 8
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        assert (folder / name).is_file()
