"""Random weights for the three voices of chatterbox-tts 0.1.7, in the files that each class reads.

Its classes know one size. For tests and small machines `small` makes them build smaller parts while it lasts; a small
checkpoint is written and loaded inside it. A real one needs neither weights from anywhere nor this.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, cast
from unittest import mock

import numpy as np

Variant = Literal["default", "multilingual", "turbo"]

_TEXT_TOKENS: Mapping[Variant, int] = {"default": 704, "multilingual": 2454, "turbo": 50276}

_REFERENCE_S = 6
"""Of noise, from which the checkpoint's own voice is made."""

TOKENS = 25
"""Most speech tokens of a small voice's piece, a second: untrained, it would hardly ever come to an end by itself."""

_SMALL = {"hidden_size": 64, "intermediate_size": 64, "head_dim": 4, "num_hidden_layers": 14}
"""Of the 30 layers of 16 heads, the multilingual voice watches the heads of three: they are still there."""


@contextmanager
def small() -> Iterator[None]:
    """While this lasts, chatterbox's classes are built of a few hundred thousand numbers."""
    t3 = importlib.import_module("chatterbox.models.t3.llama_configs").LLAMA_CONFIGS
    cond_enc = importlib.import_module("chatterbox.models.t3.modules.cond_enc")
    s3gen = importlib.import_module("chatterbox.models.s3gen.s3gen")
    tokenizer = importlib.import_module("chatterbox.models.s3tokenizer.s3tokenizer")
    sizes = tokenizer.ModelConfig(n_audio_state=64, n_audio_head=1, n_audio_layer=1)
    real = tokenizer.S3TokenizerV2.__init__
    model = importlib.import_module("chatterbox.models.t3.t3").T3
    with ExitStack() as patches:
        patch = patches.enter_context
        patch(mock.patch.dict(t3["Llama_520M"], _SMALL))
        patch(mock.patch.dict(t3["GPT2_medium"], {"hidden_size": 64, "n_embd": 64, "n_layer": 2}))
        patch(mock.patch.object(cond_enc, "Perceiver", _with(cond_enc.Perceiver, _PERCEIVER)))
        for name, changes in _S3GEN.items():
            patch(mock.patch.object(s3gen, name, _with(getattr(s3gen, name), changes)))
        patch(mock.patch.object(tokenizer.S3TokenizerV2, "__init__", lambda self, name: real(self, name, sizes)))
        for name, longest in (("inference", "max_new_tokens"), ("inference_turbo", "max_gen_len")):
            patch(mock.patch.object(model, name, _method_with(getattr(model, name), {longest: TOKENS})))
        yield


_PERCEIVER = {"pre_attention_query_size": 64, "embedding_dim": 64}

_S3GEN: Mapping[str, Mapping[str, Any]] = {
    "UpsampleConformerEncoder": {"linear_units": 64, "num_blocks": 1},
    "ConditionalDecoder": {"channels": [64], "num_mid_blocks": 1, "n_blocks": 1, "num_heads": 1},
    "CAMPPlus": {"growth_rate": 4, "init_channels": 16},
    "ConvRNNF0Predictor": {"cond_channels": 32},
    "HiFTGenerator": {"base_channels": 32},
}


def _with(build: Callable[..., Any], changes: Mapping[str, Any]) -> Callable[..., Any]:
    return lambda *arguments, **options: build(*arguments, **{**options, **changes})


def _method_with(method: Callable[..., Any], changes: Mapping[str, Any]) -> Callable[..., Any]:
    return lambda self, *arguments, **options: method(self, *arguments, **{**options, **changes})


def write(folder: Path, variant: Variant, *, seed: int = 0) -> None:
    """A checkpoint in the layout of the variant's repository, with a voice of its own made from noise."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    parts = _parts(variant)
    for module in parts.values():
        _soften(module)
    if variant == "multilingual":
        torch.save(parts["ve"].state_dict(), folder / "ve.pt")
        torch.save(parts["s3gen"].state_dict(), folder / "s3gen.pt")
        save_file(_of(parts["t3"]), folder / "t3_mtl23ls_v2.safetensors")
        _characters("[UNK]", 2454, languages=True).save(str(folder / "grapheme_mtl_merged_expanded_v1.json"))
    else:
        turbo = variant == "turbo"
        save_file(_of(parts["ve"]), folder / "ve.safetensors")
        save_file(_of(parts["s3gen"]), folder / f"s3gen{'_meanflow' if turbo else ''}.safetensors")
        save_file(_of(parts["t3"]), folder / ("t3_turbo_v1.safetensors" if turbo else "t3_cfg.safetensors"))
        if turbo:
            from transformers import PreTrainedTokenizerFast

            tokenizer = PreTrainedTokenizerFast(
                tokenizer_object=_characters("[UNK]", 50276), eos_token="[STOP]", unk_token="[UNK]"
            )
            tokenizer.save_pretrained(str(folder))
        else:
            _characters("[UNK]", 704).save(str(folder / "tokenizer.json"))
    _voice(variant, parts).save(folder / "conds.pt")


def _parts(variant: Variant) -> dict[str, Any]:
    models = {name: importlib.import_module(f"chatterbox.models.{name}") for name in ("t3", "s3gen", "voice_encoder")}
    config = importlib.import_module("chatterbox.models.t3.modules.t3_config").T3Config
    sizes = config(text_tokens_dict_size=_TEXT_TOKENS[variant])
    if variant == "turbo":  # as ChatterboxTurboTTS.from_local has it
        sizes.llama_config_name, sizes.input_pos_emb = "GPT2_medium", None
        sizes.speech_tokens_dict_size, sizes.speech_cond_prompt_len = 6563, 375
        sizes.use_perceiver_resampler = sizes.emotion_adv = False
    return {
        "t3": models["t3"].T3(sizes).eval(),
        "s3gen": models["s3gen"].S3Gen(meanflow=variant == "turbo").eval(),
        "ve": models["voice_encoder"].VoiceEncoder().eval(),
    }


def _soften(module: Any) -> None:
    """An untrained vocoder's weights may overflow."""
    import torch

    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dtype.is_floating_point:
                parameter.nan_to_num_().clamp_(-1.0, 1.0)


def _of(module: Any) -> dict[str, Any]:
    return {name: tensor.contiguous().clone() for name, tensor in module.state_dict().items()}


def _characters(unknown: str, size: int, *, languages: bool = False) -> Any:
    """A tokenizer that reads letter by letter."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    special = ["[STOP]", unknown, "[SPACE]", "[PAD]", "[SEP]", "[CLS]", "[MASK]"]
    if languages:
        special += [f"[{code}]" for code in importlib.import_module("chatterbox.mtl_tts").SUPPORTED_LANGUAGES]
    vocabulary = {name: number for number, name in enumerate(special)}
    for code in range(0x21, 0x180):
        vocabulary[chr(code)] = len(vocabulary)
    vocabulary["[START]"] = 255 if 255 not in vocabulary.values() else size - 1
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.add_special_tokens([*special, "[START]"])
    return tokenizer


def _voice(variant: Variant, parts: Mapping[str, Any]) -> Any:
    classes = {"default": ("tts", "ChatterboxTTS"), "multilingual": ("mtl_tts", "ChatterboxMultilingualTTS")}
    module_name, class_name = classes.get(variant, ("tts_turbo", "ChatterboxTurboTTS"))
    module = importlib.import_module(f"chatterbox.{module_name}")
    tts = getattr(module, class_name)(parts["t3"], parts["s3gen"], parts["ve"], None, "cpu")
    noise = np.random.default_rng(0).normal(scale=0.1, size=_REFERENCE_S * 24_000).astype(np.float32)
    with mock.patch.object(module.librosa, "load", lambda path, sr: (noise, sr)):
        if variant == "turbo":
            tts.prepare_conditionals("noise", norm_loudness=False)
        else:
            tts.prepare_conditionals("noise")
    return cast(Any, tts.conds)
