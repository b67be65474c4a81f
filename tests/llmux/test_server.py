"""One gateway at a time has a state folder."""

from pathlib import Path

import pytest

from database import DatabaseError
from database.files import only_one
from llmux import server
from llmux.config import load_config


@pytest.mark.parametrize("database", ["none", "embedded"])
def test_a_state_folder_that_another_gateway_uses_is_refused_before_anything_starts(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "log_to_stderr", lambda: None)
    path = tmp_path / "config.yaml"
    path.write_text(
        "model_list: [{model_name: Cloud, litellm_params: {model: openai/gpt}}]\n"
        f"llmux: {{budget: 1 GB, database: {database}, models: {{}}}}\n"
    )
    with only_one(tmp_path / "state"), pytest.raises(DatabaseError, match="the folder state is in use by another"):
        server.serve(load_config(path), "sk-master", 0)
    assert list((tmp_path / "state").iterdir()) == []
