"""What `transformers serve` is given to read, and what is said of one that does not start."""

import json
from pathlib import Path

import pytest

from bench.transformers_serve import _with_architecture, serving


def test_a_checkpoint_without_a_class_gets_one_and_is_itself_left_alone(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text('{"model_type": "llama"}')
    (source / "model.safetensors").write_bytes(b"weights")
    made = _with_architecture(source, tmp_path / "made")
    assert json.loads((made / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    assert (made / "model.safetensors").read_bytes() == b"weights"
    assert (source / "config.json").read_text() == '{"model_type": "llama"}'


def test_a_class_that_is_named_stays(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text('{"architectures": ["GptOssForCausalLM"]}')
    made = _with_architecture(source, tmp_path / "made")
    assert json.loads((made / "config.json").read_text())["architectures"] == ["GptOssForCausalLM"]


def test_a_server_that_ends_is_told_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr("bench.transformers_serve.sys.executable", "/bin/ls")
    with pytest.raises(RuntimeError, match="did not start"), serving(tmp_path, batching=True):
        pass
