import socket
from pathlib import Path

import pytest

import demo.gateway
from demo.gateway import CONFIG, ROOT, Gateway, GatewayFailed, gateway_environment, is_free, log_tail
from llmux.config import load_config


def test_a_port_in_use_is_seen() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_free(port)

    assert is_free(port)


def test_the_gateway_gets_the_key_and_no_gpu() -> None:
    environment = gateway_environment({"PATH": "/bin", "PYTHONDONTWRITEBYTECODE": "1"}, "sk-demo")

    assert environment == {"PATH": "/bin", "LLMUX_MASTER_KEY": "sk-demo", "CUDA_VISIBLE_DEVICES": ""}


def test_the_end_of_the_log_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo.gateway, "ROOT", tmp_path)
    monkeypatch.setattr(demo.gateway, "LOG", Path("gateway.log"))
    assert log_tail() == "The end of gateway.log:"

    (tmp_path / "gateway.log").write_text("one\ntwo\nthree\n")
    assert log_tail(lines=2) == "The end of gateway.log:\ntwo\nthree"


def test_the_budget_holds_speech_and_recognition_but_not_chat_too() -> None:
    config = load_config(ROOT / CONFIG)
    sizes = {model.task: model.estimate for model in config.settings.models.values()}
    budget = config.settings.budget

    assert budget is not None
    assert sizes["tts"] + sizes["asr"] <= budget < sum(sizes.values())
    assert sizes["asr"] + sizes["llm"] <= budget  # evicting the speech is enough
    assert list(config.virtual) == ["SmolLM2-135M", "Whisper-Base", "Hibari"]


def test_a_gateway_that_does_not_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo.gateway, "CONFIG", tmp_path / "none.yaml")
    monkeypatch.setattr(demo.gateway, "LOG", tmp_path / "gateway.log")
    gateway = Gateway(port=1, key="sk-of-a-gateway-that-does-not-start")

    with pytest.raises(GatewayFailed, match=r"ended while starting(.|\n)*no such file"):
        gateway.wait_until_healthy(lambda _: None)

    assert gateway.stop() != 0
