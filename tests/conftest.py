"""What every test module may use. Models are real and local: `make test` puts them where `demo_models` looks."""

import os
from pathlib import Path

import hypothesis
import pytest

from llmux.litellm_settings import ENVIRONMENT

os.environ.update(ENVIRONMENT)  # before anything imports LiteLLM

# A machine that is busy is not wrong: how long things take is measured in bench/.
hypothesis.settings.register_profile("llmux", deadline=None)
hypothesis.settings.load_profile("llmux")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", type=Path, help="write the pictures of docs/ into this folder")


@pytest.fixture(scope="session")
def demo_models() -> Path:
    """The folder that `python -m demo.models` fills."""
    from demo.models import cache_folder

    folder = cache_folder()
    assert folder.is_dir(), "the demo models are missing; run: make test"
    return folder
