"""Which files a physical model needs below the models folder, which of them are missing, and how to fetch them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from llmux.config import Config, Model
from llmux.errors import WeightsMissing

_CHATTERBOX_FILES: Mapping[str, tuple[str, ...]] = {
    "default": ("ve.safetensors", "t3_cfg.safetensors", "s3gen.safetensors", "tokenizer.json", "conds.pt"),
    "multilingual": (
        "ve.pt",
        "t3_mtl23ls_v2.safetensors",
        "s3gen.pt",
        "grapheme_mtl_merged_expanded_v1.json",
        "conds.pt",
    ),
    "turbo": ("ve.safetensors", "t3_turbo_v1.safetensors", "s3gen_meanflow.safetensors", "conds.pt"),
}
"""What each class of chatterbox-tts 0.1.7 reads in `from_local`."""

_TRANSFORMERS_PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")


def needed_files(model: Model, models_dir: Path) -> list[Path]:
    """Files relative to the models folder. A sharded checkpoint's shards are known once its index is there."""
    if model.weights is None:
        return []
    folder = Path(model.weights)
    if model.runtime == "llama.cpp":
        return [folder / name for name in (model.file, model.projector) if name is not None]
    if model.runtime == "chatterbox":
        return [folder / name for name in _CHATTERBOX_FILES[model.variant or "default"]]
    index = models_dir / folder / "model.safetensors.index.json"
    if index.is_file():
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        return [folder / "config.json", *(folder / shard for shard in shards)]
    return [folder / "config.json", folder / "model.safetensors"]


def missing_files(model: Model, models_dir: Path) -> list[Path]:
    """Needed files that are not there, relative to the models folder."""
    return [path for path in needed_files(model, models_dir) if not (models_dir / path).is_file()]


def require_weights(physical: str, config: Config) -> None:
    """Raises WeightsMissing, naming files relative to the models folder and the command that fetches them."""
    missing = missing_files(config.settings.models[physical], config.models_dir)
    if missing:
        shown = ", ".join(str(path) for path in missing[:3]) + (" ..." if len(missing) > 3 else "")
        raise WeightsMissing(
            f"the weights of {physical} are not here: {shown}. Run: python -m llmux weights fetch {physical}",
            param="model",
        )


def fetch_patterns(model: Model) -> Sequence[str]:
    """What to fetch from the model's repository, and nothing beside it."""
    if model.runtime == "llama.cpp":
        return [name for name in (model.file, model.projector) if name is not None]
    if model.runtime == "chatterbox":
        tokenizer = {"turbo": ("*.json", "*.txt"), "multilingual": ("Cangjie5_TC.json",)}.get(model.variant or "", ())
        return [*_CHATTERBOX_FILES[model.variant or "default"], *tokenizer]
    return _TRANSFORMERS_PATTERNS


def fetch(model: Model, models_dir: Path) -> None:
    """Fetch a model's files into the models folder, going on where an earlier fetch stopped. A gpt-oss that was
    published unpacked is packed, and then takes a third of the room.

    Raises huggingface_hub's errors: GatedRepoError where the model's terms were not accepted, and the like.
    """
    from huggingface_hub import snapshot_download  # seconds to import, and only this command needs them

    from providers import mxfp4

    if model.weights is None or mxfp4.was_converted(models_dir / model.weights):
        return
    folder = models_dir / model.weights
    snapshot_download(model.weights, local_dir=folder, allow_patterns=list(fetch_patterns(model)))
    if model.runtime == "transformers" and mxfp4.is_unpacked_gpt_oss(folder):
        mxfp4.convert_in_place(folder)
