"""Random weights for the models that litellm_config.yaml ships: true classes, true types, true sizes.

The sizes are those of the published config.json files: Qwen/Qwen3.5-4B and -9B, openai/gpt-oss-20b,
CohereLabs/cohere-transcribe-03-2026. `tiny` makes the same of a few thousand numbers: it takes the same way through the
loader, and so tells beforehand whether that way can be gone on this machine.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from bench import random_gguf
from bench.checkpoint import Checkpoint, write
from llmux.config import Model
from llmux.weights import needed_files

WEIGHTS = "model.safetensors"

TEMPLATE = "{% for message in messages %}<|start|>{{ message.content }}<|end|>{% endfor %}<|start|>"

_LIKENESSES: Mapping[str, str] = {
    "aoxo/gpt-oss-20b-uncensored": "openai/gpt-oss-20b",
    "ResembleAI/chatterbox-turbo": "ResembleAI/chatterbox",
}
"""Weights that differ in nothing that a bench can see: one folder on the disk serves both."""

_BLOCK = 128
"""Rows and columns that share one scale in an FP8 checkpoint."""

_CHATTERBOX_BYTES = 2 * 10**9
"""As the configuration estimates each of the three."""


def write_random(name: str, model: Model, models_dir: Path, *, tiny: bool = False) -> None:
    """Write what this physical model of the shipped configuration needs below models_dir, unless it is there.

    Raises KeyError for a model that nothing is known of, ImportError where its class or library is not installed, and
    OSError.
    """
    assert model.weights is not None
    folder = models_dir / disk_folder(model)
    if model.runtime == "llama.cpp":
        assert model.file is not None
        random_gguf.write(folder / model.file, tiny=tiny)
    else:
        write(checkpoint(name, model, tiny=tiny), folder)
    if not (models_dir / model.weights).exists():
        (models_dir / model.weights).parent.mkdir(parents=True, exist_ok=True)
        (models_dir / model.weights).symlink_to(folder, target_is_directory=True)


def disk_folder(model: Model) -> str:
    """Where its weights lie below models_dir; the same for models that are alike."""
    assert model.weights is not None
    return _LIKENESSES.get(model.weights, model.weights)


def bytes_of(name: str, model: Model) -> int:
    """What `write_random` writes at true size. Raises as that."""
    if model.runtime == "llama.cpp":
        return random_gguf.bytes_of(tiny=False)
    return checkpoint(name, model, tiny=False).bytes


def checkpoint(name: str, model: Model, *, tiny: bool) -> Checkpoint:
    """Of a model in safetensors. Raises KeyError and ImportError."""
    if model.runtime == "chatterbox":
        return _chatterbox(model, tiny=tiny)
    families: Mapping[str, Callable[..., Checkpoint]] = {
        "qwen3.5-4b": partial(_qwen, hidden=2560, intermediate=9216, tied=True, fp8=False),
        "qwen3.5-9b-fp8": partial(_qwen, hidden=4096, intermediate=12288, tied=False, fp8=True),
        "gpt-oss-20b": _gpt_oss,
        "gpt-oss-20b-uncensored": _gpt_oss,
        "cohere-transcribe": _cohere,
    }
    return families[name](tiny=tiny)


def _qwen(*, hidden: int, intermediate: int, tied: bool, fp8: bool, tiny: bool) -> Checkpoint:
    """The vision tower is in the files, as published; the heads for several tokens at once are not."""
    import torch
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    text: dict[str, Any] = {"hidden_size": hidden, "intermediate_size": intermediate, "tie_word_embeddings": tied}
    vision: dict[str, Any] = {"out_hidden_size": hidden}
    if tiny:
        text |= {"hidden_size": _BLOCK, "intermediate_size": _BLOCK, "num_hidden_layers": 4, "vocab_size": 512}
        text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 64}
        text |= {"linear_num_key_heads": 2, "linear_num_value_heads": 2}
        text |= {"linear_key_head_dim": 64, "linear_value_head_dim": 64}
        vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": _BLOCK}
    text |= {"max_position_embeddings": 262_144}
    config = Qwen3_5Config(text_config=text, vision_config=vision, tie_word_embeddings=tied)
    model = _on_meta(Qwen3_5ForConditionalGeneration, config)
    tensors = _tensors(model, tied=("lm_head.weight",) if tied else ())
    if fp8:
        kept = ("lm_head", "model.visual", "in_proj_a", "in_proj_b")
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear) and not name.startswith(kept[:2]) and not name.endswith(kept[2:]):
                rows, columns = module.weight.shape
                scales = (-(-rows // _BLOCK), -(-columns // _BLOCK))
                tensors[f"{name}.weight"] = torch.empty(rows, columns, dtype=torch.float8_e4m3fn, device="meta")
                tensors[f"{name}.weight_scale_inv"] = torch.empty(scales, dtype=torch.float32, device="meta")
        config.quantization_config = {
            "quant_method": "fp8",
            "activation_scheme": "dynamic",
            "weight_block_size": [_BLOCK, _BLOCK],
            "modules_to_not_convert": list(kept),
        }
    return Checkpoint({WEIGHTS: tensors}, partial(_save_chat, config))


def _gpt_oss(*, tiny: bool) -> Checkpoint:
    """MXFP4 as published: 32 numbers are 16 bytes and share a scale of one byte."""
    import torch
    from transformers import GptOssConfig, GptOssForCausalLM

    sizes: dict[str, Any] = {"num_hidden_layers": 24, "num_local_experts": 32}
    if tiny:
        sizes = {"num_hidden_layers": 2, "num_local_experts": 4, "hidden_size": 64, "intermediate_size": 64}
        sizes |= {"vocab_size": 512, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
    config = GptOssConfig(**sizes)
    tensors = _tensors(_on_meta(GptOssForCausalLM, config))
    for name in [name for name in tensors if name.endswith("_proj") and ".experts." in name]:
        experts, columns, rows = tensors.pop(name).shape
        tensors[f"{name}_blocks"] = torch.empty(experts, rows, columns // 32, 16, dtype=torch.uint8, device="meta")
        tensors[f"{name}_scales"] = torch.empty(experts, rows, columns // 32, dtype=torch.uint8, device="meta")
    config.quantization_config = {
        "quant_method": "mxfp4",
        "modules_to_not_convert": [
            "model.layers.*.self_attn",
            "model.layers.*.mlp.router",
            "model.embed_tokens",
            "lm_head",
        ],
    }
    return Checkpoint({WEIGHTS: tensors}, partial(_save_chat, config))


def _cohere(*, tiny: bool) -> Checkpoint:
    from transformers import CohereAsrConfig, CohereAsrForConditionalGeneration

    # Its 1,024 positions are cut to 32: random weights never say that they are done, and the words are not wanted.
    sizes: dict[str, Any] = {"max_position_embeddings": 32}
    if tiny:
        small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        encoder = {**small, "subsampling_conv_channels": 8, "num_mel_bins": 128}
        sizes |= {**small, "vocab_size": 512, "encoder_config": encoder}
    config = CohereAsrConfig(**sizes, decoder_start_token_id=_COHERE_TOKENS.index("<|startoftranscript|>"))
    return Checkpoint(
        {WEIGHTS: _tensors(_on_meta(CohereAsrForConditionalGeneration, config))}, partial(_save_ear, config)
    )


def _chatterbox(model: Model, *, tiny: bool) -> Checkpoint:
    """The files of all three, which share a folder: all of the weights in one of them, float32 as published."""
    import torch

    rows = 64 if tiny else _CHATTERBOX_BYTES // (4 * 4096)
    voice = {
        f"layer.{start}": torch.empty(min(1024, rows - start), 4096, device="meta") for start in range(0, rows, 1024)
    }
    variants = ("default", "multilingual", "turbo")
    each = [model.model_copy(update={"variant": variant}) for variant in variants]
    names = {path.name for variant in each for path in needed_files(variant, Path())}
    first, *others = sorted(name for name in names if name.startswith("t3_"))
    little = {name: {"layer.0": torch.empty(1, 1, device="meta")} for name in names if name.endswith(".safetensors")}

    def save(folder: Path) -> None:
        for name in others:
            (folder / name).symlink_to(first)
        for name in names:
            (folder / name).touch()

    return Checkpoint({first: voice, **{name: little[name] for name in little if not name.startswith("t3_")}}, save)


def _on_meta(kind: Any, config: Any) -> Any:
    import torch

    config.architectures = [kind.__name__]
    config.dtype = torch.bfloat16
    with torch.device("meta"):
        return kind(config)


def _tensors(model: Any, tied: Iterable[str] = ()) -> dict[str, Any]:
    import torch

    return {
        name: tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
        if name not in tied
    }


def _save_chat(config: Any, folder: Path) -> None:
    """A vocabulary of bytes, so that the length of a prompt is known; the model's own is larger and never spelt out."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={byte: index for index, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in ("<|start|>", "<|end|>")])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|start|>", eos_token="<|end|>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    config.save_pretrained(folder)
    if hasattr(config, "vision_config"):
        Qwen2VLImageProcessorPil(patch_size=16, merge_size=2).save_pretrained(folder)


_COHERE_TOKENS = (
    "<unk>",
    "<pad>",
    "<|pad|>",
    "<|endoftext|>",
    "<|startoftranscript|>",
    "<|startofcontext|>",
    "<|emo:undefined|>",
    "<|pnc|>",
    "<|nopnc|>",
    "<|noitn|>",
    "<|notimestamp|>",
    "<|nodiarize|>",
    "<|en|>",
)
"""Those that its processor begins with. Padding, end and beginning stand where its config.json has them: 2, 3 and 4."""


def _save_ear(config: Any, folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models
    from transformers import CohereAsrFeatureExtractor, CohereAsrProcessor, PreTrainedTokenizerFast

    words = [*_COHERE_TOKENS, "▁", *(f"▁w{number}" for number in range(config.vocab_size))][: config.vocab_size]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.decoder = decoders.Metaspace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<|pad|>",
        eos_token="<|endoftext|>",
        additional_special_tokens=list(_COHERE_TOKENS[4:]),
    )
    CohereAsrProcessor(CohereAsrFeatureExtractor(feature_size=128), fast).save_pretrained(folder)
    config.save_pretrained(folder)
