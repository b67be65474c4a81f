import io
from typing import Any

import pytest
from starlette.datastructures import UploadFile

from hooks.form import complete
from llmux.errors import InvalidRequest


def asked(query: str, **form: Any) -> dict[str, Any]:
    """What LiteLLM's data holds after the form was completed."""
    data = {**form, "proxy_server_request": {"url": f"http://127.0.0.1:8081/v1/audio/transcriptions{query}"}}
    complete(data)
    return {name: value for name, value in data.items() if name != "proxy_server_request"}


def test_the_query_string_says_what_the_form_leaves_out() -> None:
    assert asked("?model=Ears&language=de&stream=true", response_format="text") == {
        "model": "Ears",
        "language": "de",
        "stream": "true",
        "response_format": "text",
    }


def test_an_empty_field_leaves_it_to_the_query_string() -> None:
    assert asked("?model=Ears&prompt=Good%20day", model="", prompt="") == {"model": "Ears", "prompt": "Good day"}


def test_the_same_in_both_is_no_contradiction() -> None:
    assert asked("?model=Ears", model="Ears") == {"model": "Ears"}


@pytest.mark.parametrize("query", ["?model=Other", "?model=Ears&model=Other"])
def test_a_contradiction_is_refused(query: str) -> None:
    with pytest.raises(InvalidRequest, match="model is given twice") as refused:
        asked(query, model="Ears")

    assert refused.value.param == "model"


def test_granularities_add_up() -> None:
    query = "?timestamp_granularities[]=word&timestamp_granularities[]=segment"

    assert asked(query) == {"timestamp_granularities": ["word", "segment"]}


def test_what_is_no_field_of_a_transcription_is_not_taken_from_the_query_string() -> None:
    assert asked("?api_base=http://elsewhere&num_retries=9&user=x") == {}


def test_another_file_is_left_out() -> None:
    assert asked("", model="Ears", audio_file=UploadFile(io.BytesIO(b"RIFF"))) == {"model": "Ears"}


@pytest.mark.parametrize("name", ["self", "litellm_logging_obj", "guardrails", "model_info"])
def test_a_text_that_litellm_would_take_for_its_own_is_left_out(name: str) -> None:
    assert asked("", model="Ears", **{name: "x"}) == {"model": "Ears"}


@pytest.mark.parametrize("name", ["api_base", "mock_response"])
def test_what_is_refused_stays_to_be_refused(name: str) -> None:
    assert asked("", **{name: "x"}) == {name: "x"}


def test_a_field_that_nobody_knows_is_left_out() -> None:
    assert asked("", model="Ears", vector_store_request_metadata="x", user="u") == {"model": "Ears", "user": "u"}


@pytest.mark.parametrize(
    "sent", [{"metadata": {"requester_metadata": {"headers": {}, "mine": "x"}}}, {"litellm_metadata": {}}]
)
def test_metadata_is_refused(sent: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="metadata is not taken"):
        asked("", model="Ears", **sent)


def test_what_litellm_adds_stays() -> None:
    added = {"metadata": {"requester_metadata": {"headers": {}}, "user_api_key": "hash"}, "litellm_call_id": "1"}
    assert asked("", model="Ears", **added) == {"model": "Ears", **added}


def test_without_an_address_nothing_is_added() -> None:
    data = {"model": "Ears"}
    complete(data)

    assert data == {"model": "Ears"}
