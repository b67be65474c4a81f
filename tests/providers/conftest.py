"""Models that several runtimes are tested with."""

from pathlib import Path

import pytest

from tests import checkpoints


@pytest.fixture(scope="session")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny Qwen3.5 with eyes, as safetensors and as GGUF with a projector. Not to be changed."""
    folder = tmp_path_factory.mktemp("qwen")
    checkpoints.write_qwen(folder)
    checkpoints.write_qwen_gguf(folder, folder / "model.gguf", folder / "mmproj.gguf")
    return folder
