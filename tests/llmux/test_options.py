from pathlib import Path

import click
import pytest

from llmux.options import load


def test_a_configuration_that_cannot_be_used_is_one_line_for_the_user(tmp_path: Path) -> None:
    with pytest.raises(click.ClickException, match="no such file; give one with --config"):
        load(tmp_path / "litellm_config.yaml")
