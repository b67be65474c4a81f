import pytest

from llmux.surface import ROUTES, is_open, without_model


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models",
        "/v1/models/Qwen3.5-4B-Instruct",
        "/health",
        "/metrics",
        "/vram",
        "/vram/load",
        "/vram/unload",
        "/vram/pin",
        "/v1/audio/speech",
    ],
)
def test_what_llmux_serves_is_open(path: str) -> None:
    assert is_open(path, ROUTES)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/key/generate",
        "/v1/modelsx",
        "/metrics/x",
        "/vram/x",
        "/health/readiness",
        "/ui",
        "/config/update",
        "/v1/embeddings",
        "/v1",
    ],
)
def test_everything_else_of_litellm_is_closed(path: str) -> None:
    assert not is_open(path, ROUTES)


def test_the_configuration_opens_a_route_or_all_below_one() -> None:
    assert is_open("/v1/embeddings", ["/v1/embeddings"])
    assert is_open("/key/generate", ["/key/*"])
    assert not is_open("/keys", ["/key/*"])


@pytest.mark.parametrize(
    ("query", "left"),
    [
        (b"model=Other", b""),
        (b"MODEL=Other&x=1", b"x=1"),
        (b"x=a%20b&%6dodel=Other&y=", b"x=a+b&y="),
        (b"api-version=1", b"api-version=1"),
    ],
)
def test_a_query_names_no_model(query: bytes, left: bytes) -> None:
    assert without_model(query) == left
