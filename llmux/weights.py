"""Which files a physical model needs below the models folder, which of them are missing, and whence they come."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

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
"""No second copy in another format, such as *.bin or gpt-oss's original/ and metal/."""


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


@dataclass(frozen=True, slots=True)
class Repository:
    """One repository of the Hugging Face hub, as a model needs it; below the models folder it has its own name.

    patterns: those without a slash are for its top folder alone
    branch: what is fetched where the lock names no revision
    """

    name: str
    patterns: tuple[str, ...]
    kind: Literal["model", "kernel"] = "model"
    branch: str = "main"

    def wants(self, file: str) -> bool:
        """Whether a file of the repository, by its path in it, is needed."""
        if any(not part or part.startswith(".") for part in file.split("/")):
            return False  # never up and out of the folder, nor onto llmux's own notes in it
        return any(fnmatchcase(file, each) for each in self.patterns if "/" in each or "/" not in file)


_KERNEL_PATTERNS = ("build/torch-cuda/*", "build/torch-universal/*")
"""Kernels in Triton, which are compiled where they run: these builds hold Python alone and fit every torch."""

_KERNELS: Mapping[str, Repository] = {
    key: Repository(f"kernels-community/{name}", _KERNEL_PATTERNS, "kernel", branch)
    for key, name, branch in (
        ("fp8", "finegrained-fp8", "v4"),
        ("mxfp4", "gpt-oss-triton-kernels", "v1"),
        ("qwen3_5", "fla", "v2"),
    )
}
"""By quantisation or model type: what transformers 5.23 would fetch at the first request, and in which version
(integrations/hub_kernels.py, integrations/mxfp4.py)."""


def model_repository(model: Model) -> Repository | None:
    """Where a model's own files come from; None where the runtime's package holds them."""
    if model.weights is None:
        return None
    if model.runtime == "llama.cpp":
        return Repository(model.weights, tuple(name for name in (model.file, model.projector) if name is not None))
    if model.runtime == "chatterbox":
        tokenizer = {"turbo": ("*.json", "*.txt"), "multilingual": ("Cangjie5_TC.json",)}.get(model.variant or "", ())
        return Repository(model.weights, (*_CHATTERBOX_FILES[model.variant or "default"], *tokenizer))
    return Repository(model.weights, _TRANSFORMERS_PATTERNS)


def read_config(folder: Path) -> dict[str, Any]:
    """A checkpoint's config.json; empty where there is none that can be read."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def kernel_repositories(model: Model, models_dir: Path) -> list[Repository]:
    """The kernels that a transformers model asks for, by its config.json: none as long as that is not there."""
    if model.runtime != "transformers" or model.weights is None:
        return []
    config = read_config(models_dir / model.weights)
    asked = ((config.get("quantization_config") or {}).get("quant_method"), config.get("model_type"))
    return [repository for key, repository in _KERNELS.items() if key in asked]


def local_kernels(models: Iterable[Model], models_dir: Path) -> str:
    """LOCAL_KERNELS, by which the package `kernels` finds them without asking the hub."""
    needed = {each.name for model in models for each in kernel_repositories(model, models_dir)}
    return ":".join(f"{name}={models_dir / name}" for name in sorted(needed) if (models_dir / name).is_dir())
