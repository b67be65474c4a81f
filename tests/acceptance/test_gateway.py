import httpx
import pytest

from acceptance.gateway import Gateway, Unreachable, admin_key_given, configuration_given
from llmux.config import load_config
from tests.gateway import ROOT, free_port

SHIPPED = load_config(ROOT / "litellm_config.yaml")


@pytest.fixture
def shipped() -> Gateway:
    return Gateway("http://gateway/v1/", "sk-key", config=SHIPPED)


def listing(handler: object) -> Gateway:
    """A gateway without a configuration, whose answers are these."""
    gateway = Gateway("http://gateway", "sk-key")
    gateway.http = httpx.Client(base_url="http://gateway", transport=httpx.MockTransport(handler))  # type: ignore[arg-type]
    return gateway


def test_a_configuration_tells_names_tasks_and_models(shipped: Gateway) -> None:
    assert shipped.url == "http://gateway"
    assert len(shipped.served) == 16
    assert [len(shipped.names(task)) for task in ("llm", "asr", "tts")] == [12, 1, 3]
    assert len(shipped.physicals()) == 9
    assert shipped.name_of("gpt-oss-20b").name == "GPT-OSS-20B-Low"
    assert shipped.order("Qwen3.5-4B-Instruct") < shipped.order("cohere-transcribe") < shipped.order("nobody")


def test_one_name_speaks_for_each_model_that_can(shipped: Gateway) -> None:
    seeing = ["Qwen3.5-9B-FP8-Instruct", "Qwen3.5-9B-FP8-Uncensored-Instruct", "Qwen3.5-4B-Instruct"]
    assert shipped.spokesmen("vision") == seeing
    assert shipped.spokesmen("tools") == [*seeing, "GPT-OSS-20B-Medium", "GPT-OSS-20B-Uncensored-Medium"]


def test_without_a_configuration_refusals_tell_the_task() -> None:
    tasks = {"Chat": "", "Ears": "transcriptions", "Voice": "speech"}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": name} for name in tasks]})
        name = next(name for name in tasks if name.encode() in request.content)
        right = tasks[name] and request.url.path.endswith(tasks[name])
        return httpx.Response(400, json={"error": {"code": None if right else "wrong_task"}})

    gateway = listing(answer)
    assert {served.name: served.task for served in gateway.served.values()} == {
        "Chat": "llm",
        "Ears": "asr",
        "Voice": "tts",
    }
    assert gateway.physicals() == []


def test_a_key_that_is_refused_is_named() -> None:
    with pytest.raises(Unreachable, match="401; is the key right"):
        _ = listing(lambda request: httpx.Response(401)).served


def test_what_lists_no_models_is_no_gateway() -> None:
    with pytest.raises(Unreachable, match="lists no models"):
        _ = listing(lambda request: httpx.Response(200, text="<html>")).served


def test_where_nobody_listens_nothing_can_be_checked() -> None:
    with Gateway(f"http://127.0.0.1:{free_port()}", "sk-key") as nobody, pytest.raises(Unreachable, match="start it"):
        nobody.require_answer()


def test_the_proxys_name_goes_into_header_and_certificate() -> None:
    with Gateway("https://127.0.0.1", "sk-key", host="llmux.example.org") as gateway:
        request = gateway.http.build_request("GET", "/v1/models")
        assert request.headers["host"] == "llmux.example.org"
        for hook in gateway.http.event_hooks["request"]:
            hook(request)
        assert request.extensions["sni_hostname"] == "llmux.example.org"


def test_loads_are_read_from_the_metrics() -> None:
    text = '# TYPE llmux_loads counter\nllmux_loads_total{model="a"} 3.0\nllmux_leases{model="b"} 1.0\n'
    assert listing(lambda request: httpx.Response(200, text=text)).loads() == {"a": 3}


def test_needs_say_what_is_to_be_given(shipped: Gateway) -> None:
    assert "LLMUX_MASTER_KEY" in str(admin_key_given(shipped))
    assert configuration_given(shipped) is None
    assert "--config" in str(configuration_given(Gateway("http://gateway", "sk-key", admin_key="sk-admin")))
