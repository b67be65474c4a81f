import importlib
from pathlib import Path

import pytest

from bench import random_chatterbox
from bench.random_chatterbox import Variant
from llmux.config import Model
from llmux.weights import missing_files


@pytest.mark.parametrize("variant", ["default", "multilingual", "turbo"])
def test_a_checkpoint_has_each_file_that_the_real_one_must_have(tmp_path: Path, variant: Variant) -> None:
    given = {"task": "tts", "runtime": "chatterbox", "weights": "voice", "variant": variant, "estimate": "1 GB"}
    with random_chatterbox.small():
        random_chatterbox.write(tmp_path / "voice", variant)

    assert missing_files(Model.model_validate(given), tmp_path) == []
    assert sum(path.stat().st_size for path in (tmp_path / "voice").iterdir()) < 150 * 10**6


def test_the_classes_know_their_own_size_again_afterwards() -> None:
    configs = importlib.import_module("chatterbox.models.t3.llama_configs").LLAMA_CONFIGS
    with random_chatterbox.small():
        assert configs["Llama_520M"]["hidden_size"] == 64
    assert configs["Llama_520M"]["hidden_size"] == 1024
