"""The gateway that a benchmark talks to."""

import httpx
import pytest

from bench.gateway import gateway

CONFIG = """\
model_list:
  - {model_name: Voice, litellm_params: {model: llmux/hibari}}
llmux:
  budget: 1 GB
  database: none
  models:
    hibari: {task: tts, runtime: hibari, estimate: 100 MB}
"""


def test_it_is_there_for_as_long_as_it_is_needed_and_its_client_has_a_key() -> None:
    with gateway(CONFIG) as client:
        assert [model["id"] for model in client.get("/v1/models").raise_for_status().json()["data"]] == ["Voice"]
        url = client.base_url
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_one_that_does_not_start_says_why() -> None:
    misspelt = CONFIG.replace("runtime: hibari", "runtime: hibary")
    with pytest.raises(RuntimeError, match="Input should be"), gateway(misspelt):
        pass
