"""What a virtual key may do, may spend and is told, over HTTP: a real gateway on a database of its own."""

import hashlib
import json
import os
import secrets
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from database.postmaster import PidFile, processes_in
from tests.gateway import MASTER_KEY, ROOT, Gateway, eventually

CONFIG = """\
model_list:
  - model_name: Chat
    litellm_params: {{model: llmux/smollm2}}
    model_info: {{input_cost_per_token: 0.001, output_cost_per_token: 0.002}}
  - model_name: Ears
    litellm_params: {{model: llmux/whisper}}
    model_info: {{input_cost_per_second: 0.5}}
  - model_name: Voice
    litellm_params: {{model: llmux/hibari}}
    model_info: {{input_cost_per_character: 0.01}}
  - {{model_name: Chat-Too, litellm_params: {{model: llmux/smollm2}}}}
  - {{model_name: Ears-Too, litellm_params: {{model: llmux/whisper}}}}
  - {{model_name: Voice-Too, litellm_params: {{model: llmux/hibari}}}}
router_settings:
  model_group_alias: {{whisper-1: Ears, tts-1: Voice, gpt-4: {{model: Chat, hidden: true}}}}
general_settings:
  proxy_batch_write_at: 1
llmux:
  budget: 750 MB
  models_dir: {models}
  open_routes: [/spend/logs, /team/new, /user/new]
  models:
    smollm2:
      {{task: llm, runtime: llama.cpp, weights: smollm2-135m, file: SmolLM2-135M-Instruct.Q4_1.gguf, context: 2048,
        estimate: 300 MB}}
    whisper: {{task: asr, runtime: transformers, weights: whisper-base, estimate: 300 MB}}
    hibari: {{task: tts, runtime: hibari, estimate: 100 MB}}
"""

HELLO = [{"role": "user", "content": "Say hello."}]
STORY = [{"role": "user", "content": "Write a very long story about a dragon."}]
SENTENCE = "On Monday the train leaves London at noon."
LONG = {"voice": "default", "input": " ".join([SENTENCE] * 90), "response_format": "pcm"}

Ask = Callable[..., httpx.Response]
"""Asks as the holder of a key: ask(key, model, **more)."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def gateway(folder: Path, demo_models: Path) -> Iterator[Gateway]:
    (folder / "config.yaml").write_text(CONFIG.format(models=demo_models))
    gateway = Gateway(folder / "config.yaml")
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def admin(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.http() as http:
        yield http


@pytest.fixture(scope="module")
def recording(admin: httpx.Client) -> bytes:
    answer = admin.post(
        "/v1/audio/speech",
        json={"model": "Voice", "voice": "default", "input": SENTENCE, "response_format": "wav", "seed": 1},
    )
    assert answer.status_code == 200, answer.text
    return answer.content


@pytest.fixture
def new_key(admin: httpx.Client) -> Callable[..., str]:
    def make(**limits: Any) -> str:
        answer = admin.post("/key/generate", json={"key_alias": secrets.token_hex(4), **limits})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["key"])

    return make


def ask_chat(gateway: Gateway, key: str, model: str = "Chat", **more: Any) -> httpx.Response:
    body = {"model": model, "messages": HELLO, "max_tokens": 2, **more}
    with gateway.http(key) as http:
        return http.post("/v1/chat/completions", json=body)


@pytest.fixture
def asking(gateway: Gateway, recording: bytes) -> dict[str, Ask]:
    """One way to ask for each route."""

    def post(path: str, **body: Any) -> Ask:
        def ask(key: str, model: str, **more: Any) -> httpx.Response:
            with gateway.http(key) as http:
                return http.post(path, json={"model": model, **body, **more})

        return ask

    def transcribe(key: str, model: str, **more: Any) -> httpx.Response:
        with gateway.http(key) as http:
            return http.post(
                "/v1/audio/transcriptions", data={"model": model, **more}, files={"file": ("speech.wav", recording)}
            )

    return {
        "chat": post("/v1/chat/completions", messages=HELLO, max_tokens=2),
        "completions": post("/v1/completions", prompt="Hello", max_tokens=2),
        "responses": post("/v1/responses", input="Hello", max_output_tokens=2),
        "messages": post("/v1/messages", messages=HELLO, max_tokens=2),
        "transcriptions": transcribe,
        "speech": post("/v1/audio/speech", input="Yes.", voice="default"),
    }


ROUTES = {
    "chat": ("Chat", "Chat-Too"),
    "completions": ("Chat", "Chat-Too"),
    "responses": ("Chat", "Chat-Too"),
    "messages": ("Chat", "Chat-Too"),
    "transcriptions": ("Ears", "Ears-Too"),
    "speech": ("Voice", "Voice-Too"),
}
"""For each route a model that a key of these tests may use, and one that it may not."""


def refusal(answer: httpx.Response) -> tuple[int, str]:
    """The status and the code of an error in OpenAI's shape, which gives nothing away."""
    error = answer.json()["error"]
    assert set(answer.json()) == {"error"}
    assert set(error) == {"message", "type", "param", "code"}
    for private in ("sk-", "LiteLLM", "litellm", "Table", "Traceback", str(ROOT), "/tmp", "postgres"):
        assert private not in answer.text
    return answer.status_code, str(error["code"])


# Which models


@pytest.mark.parametrize("route", ROUTES)
def test_a_key_uses_the_models_on_its_list_and_no_other(
    route: str, asking: dict[str, Ask], new_key: Callable[..., str]
) -> None:
    mine, other = ROUTES[route]
    key = new_key(models=[mine])
    assert asking[route](key, mine).status_code == 200
    assert refusal(asking[route](key, other)) == (403, "model_not_allowed")


@pytest.mark.parametrize("model", ["llmux/smollm2", "Chat,Chat-Too", "Chat-Too,Chat", "Nobody"])
def test_another_way_to_write_a_model_does_not_widen_the_list(
    gateway: Gateway, new_key: Callable[..., str], model: str
) -> None:
    assert refusal(ask_chat(gateway, new_key(models=["Chat"]), model)) == (403, "model_not_allowed")


@pytest.mark.parametrize("model", ["llmux/smollm2", "Chat,Chat-Too", "Nobody"])
def test_for_a_key_of_all_models_such_a_model_does_not_exist(
    gateway: Gateway, new_key: Callable[..., str], model: str
) -> None:
    assert refusal(ask_chat(gateway, new_key(), model)) == (404, "model_not_found")


@pytest.mark.parametrize("fallbacks", [["Chat-Too"], [{"Chat": ["Chat-Too"]}], ["llmux/smollm2"]])
def test_fallbacks_in_the_body_do_not_widen_the_list(
    gateway: Gateway, new_key: Callable[..., str], fallbacks: list[Any]
) -> None:
    status, _ = refusal(ask_chat(gateway, new_key(models=["Chat"]), fallbacks=fallbacks))
    assert status in (400, 403)


@pytest.mark.parametrize("query", ["model=Chat-Too", "%6dodel=Chat-Too", "Model=Chat-Too", "x=1&model=Chat-Too"])
def test_a_model_in_the_query_is_not_looked_at(gateway: Gateway, new_key: Callable[..., str], query: str) -> None:
    for key in (new_key(models=["Chat"]), MASTER_KEY):
        with gateway.http(key) as http:
            body = {"model": "Chat", "messages": HELLO, "max_tokens": 2}
            answer = http.post(f"/v1/chat/completions?{query}", json=body)
        assert (answer.status_code, answer.json().get("model")) == (200, "Chat")


def test_a_form_that_names_two_models_is_held_to_the_list(
    gateway: Gateway, recording: bytes, new_key: Callable[..., str]
) -> None:
    with gateway.http(new_key(models=["Ears"])) as http:
        form = {"model": ["Ears", "Ears-Too"]}
        answer = http.post("/v1/audio/transcriptions", data=form, files={"file": ("speech.wav", recording)})
    assert refusal(answer) == (403, "model_not_allowed")


def test_a_recording_whose_query_names_the_model_is_held_to_the_list(
    gateway: Gateway, recording: bytes, new_key: Callable[..., str]
) -> None:
    with gateway.http(new_key(models=["Ears"])) as http:
        answers = {
            model: http.post(f"/v1/audio/transcriptions?model={model}", files={"file": ("speech.wav", recording)})
            for model in ("Ears", "Ears-Too")
        }
    assert answers["Ears"].status_code == 200
    assert refusal(answers["Ears-Too"]) == (403, "model_not_allowed")


def test_a_group_stands_for_all_models_of_a_task(
    gateway: Gateway, asking: dict[str, Ask], new_key: Callable[..., str]
) -> None:
    key = new_key(models=["transcription"])
    assert asking["transcriptions"](key, "Ears").status_code == 200
    assert asking["transcriptions"](key, "Ears-Too").status_code == 200
    for route in ("chat", "speech"):
        assert refusal(asking[route](key, ROUTES[route][0])) == (403, "model_not_allowed")
    assert [model.id for model in gateway.openai(key).models.list()] == ["Ears", "Ears-Too"]


@pytest.mark.parametrize(("route", "alias"), [("chat", "gpt-4"), ("transcriptions", "whisper-1"), ("speech", "tts-1")])
def test_an_alias_is_allowed_where_its_model_is(
    route: str, alias: str, asking: dict[str, Ask], new_key: Callable[..., str]
) -> None:
    mine, other = ROUTES[route]
    assert asking[route](new_key(models=[mine]), alias).status_code == 200
    assert refusal(asking[route](new_key(models=[other]), alias)) == (403, "model_not_allowed")


def test_a_keys_own_alias_is_allowed_where_its_model_is(gateway: Gateway, new_key: Callable[..., str]) -> None:
    own = {"mine": "Chat-Too"}
    assert ask_chat(gateway, new_key(models=["Chat-Too"], aliases=own), "mine").status_code == 200
    assert refusal(ask_chat(gateway, new_key(models=["Chat"], aliases=own), "mine")) == (403, "model_not_allowed")


def test_a_teams_list_of_models_holds_for_its_keys(
    gateway: Gateway, admin: httpx.Client, new_key: Callable[..., str]
) -> None:
    team = admin.post("/team/new", json={"models": ["Chat"]}).json()["team_id"]
    key = new_key(team_id=team)
    assert ask_chat(gateway, key).status_code == 200
    assert refusal(ask_chat(gateway, key, "Chat-Too")) == (403, "model_not_allowed")


# How much


@pytest.mark.parametrize("route", ROUTES)
def test_requests_a_minute(route: str, asking: dict[str, Ask], new_key: Callable[..., str]) -> None:
    key = new_key(rpm_limit=1)
    assert asking[route](key, ROUTES[route][0]).status_code == 200
    refused = asking[route](key, ROUTES[route][0])
    assert refusal(refused) == (429, "rate_limit_exceeded")
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert "1 requests a minute" in refused.json()["error"]["message"]


def test_requests_a_minute_are_counted_however_many_other_keys_ask(
    gateway: Gateway, new_key: Callable[..., str]
) -> None:
    key, *others = [new_key(rpm_limit=1) for _ in range(101)]
    assert ask_chat(gateway, key, max_tokens=1).status_code == 200
    for other in others:  # all within the key's minute
        assert ask_chat(gateway, other, max_tokens=1).status_code == 200
    assert refusal(ask_chat(gateway, key)) == (429, "rate_limit_exceeded")


def test_tokens_a_minute(gateway: Gateway, new_key: Callable[..., str]) -> None:
    key = new_key(tpm_limit=36)
    first = ask_chat(gateway, key)
    assert first.json()["usage"]["total_tokens"] == 35
    eventually(lambda: ask_chat(gateway, key).status_code != 200, within_s=5)
    refused = ask_chat(gateway, key)
    assert refusal(refused) == (429, "rate_limit_exceeded")
    assert 0 < int(refused.headers["retry-after"]) <= 60


def test_a_teams_requests_a_minute_hold_for_all_its_keys(
    gateway: Gateway, admin: httpx.Client, new_key: Callable[..., str]
) -> None:
    team = admin.post("/team/new", json={"rpm_limit": 1}).json()["team_id"]
    assert ask_chat(gateway, new_key(team_id=team)).status_code == 200
    assert refusal(ask_chat(gateway, new_key(team_id=team))) == (429, "rate_limit_exceeded")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"model": "Chat", "messages": STORY, "stream": True, "temperature": 0}),
        ("/v1/audio/speech", {"model": "Voice", **LONG}),
    ],
)
def test_parallel_requests_are_those_that_are_not_answered_yet(
    gateway: Gateway, new_key: Callable[..., str], path: str, body: dict[str, Any]
) -> None:
    key = new_key(max_parallel_requests=1)
    with gateway.http(key) as http, http.stream("POST", path, json=body) as unfinished:
        assert unfinished.status_code == 200
        chunks = unfinished.iter_raw()
        next(chunks)
        refused = ask_chat(gateway, key)
        assert refusal(refused) == (429, "rate_limit_exceeded")
        assert refused.headers["retry-after"] == "1"
    eventually(lambda: ask_chat(gateway, key).status_code == 200, within_s=5)


@pytest.mark.parametrize("route", ROUTES)
def test_an_answer_that_was_read_makes_room_at_once(
    route: str, asking: dict[str, Ask], new_key: Callable[..., str]
) -> None:
    key = new_key(max_parallel_requests=1)
    for _ in range(3):
        assert asking[route](key, ROUTES[route][0]).status_code == 200


def test_a_stream_that_was_read_makes_room_at_once(gateway: Gateway, new_key: Callable[..., str]) -> None:
    with gateway.http(new_key(max_parallel_requests=1)) as http:
        for _ in range(20):
            body = {"model": "Chat", "messages": HELLO, "max_tokens": 1, "stream": True}
            assert http.post("/v1/chat/completions", json=body).status_code == 200


@pytest.mark.parametrize(
    ("route", "wrong"),
    [("chat", {"temperature": 9}), ("speech", {"voice": "nobody"}), ("transcriptions", {"temperature": "9"})],
)
def test_an_error_makes_room_at_once(
    route: str, wrong: dict[str, Any], asking: dict[str, Ask], new_key: Callable[..., str]
) -> None:
    key = new_key(max_parallel_requests=1)
    assert asking[route](key, ROUTES[route][0], **wrong).status_code == 400
    assert asking[route](key, ROUTES[route][0]).status_code == 200


@pytest.mark.parametrize("route", ["chat", "transcriptions", "speech"])
def test_a_client_that_left_makes_room(
    route: str, gateway: Gateway, recording: bytes, new_key: Callable[..., str]
) -> None:
    requests: dict[str, dict[str, Any]] = {
        "chat": {"url": "/v1/chat/completions", "json": {"model": "Chat", "messages": STORY}},
        "speech": {"url": "/v1/audio/speech", "json": {"model": "Voice", **LONG}},
        "transcriptions": {
            "url": "/v1/audio/transcriptions",
            "data": {"model": "Ears"},
            "files": {"file": ("speech.wav", recording)},
        },
    }
    key = new_key(max_parallel_requests=1)
    with (
        gateway.http(key) as http,
        suppress(httpx.ReadTimeout),
        http.stream("POST", timeout=0.15, **requests[route]) as unfinished,
    ):
        next(unfinished.iter_raw())
    eventually(lambda: ask_chat(gateway, key).status_code == 200, within_s=5)


# Until when


def test_a_key_expires(gateway: Gateway, new_key: Callable[..., str]) -> None:
    key = new_key(duration="1s")
    eventually(lambda: ask_chat(gateway, key).status_code != 200, within_s=5)
    assert refusal(ask_chat(gateway, key)) == (401, "api_key_expired")


def test_a_blocked_key_is_refused_at_once_and_served_again_at_once(
    gateway: Gateway, admin: httpx.Client, new_key: Callable[..., str]
) -> None:
    key = new_key()
    assert ask_chat(gateway, key).status_code == 200
    assert admin.post("/key/block", json={"key": key}).status_code == 200
    assert refusal(ask_chat(gateway, key)) == (401, "api_key_blocked")
    assert admin.post("/key/unblock", json={"key": key}).status_code == 200
    assert ask_chat(gateway, key).status_code == 200


def test_a_change_to_a_key_holds_at_once(gateway: Gateway, admin: httpx.Client, new_key: Callable[..., str]) -> None:
    key = new_key()
    assert ask_chat(gateway, key).status_code == 200
    assert admin.post("/key/update", json={"key": key, "models": ["Ears"]}).status_code == 200
    assert refusal(ask_chat(gateway, key)) == (403, "model_not_allowed")


def test_a_deleted_key_is_wrong_at_once(gateway: Gateway, admin: httpx.Client, new_key: Callable[..., str]) -> None:
    key = new_key()
    assert ask_chat(gateway, key).status_code == 200
    assert admin.post("/key/delete", json={"keys": [key]}).status_code == 200
    assert refusal(ask_chat(gateway, key)) == (401, "invalid_api_key")


@pytest.mark.parametrize("header", [None, "Bearer sk-wrong-key-of-nobody", "Bearer nokey", "Basic dXNlcjpwYXNz"])
def test_a_missing_malformed_or_wrong_key_is_a_401(gateway: Gateway, header: str | None) -> None:
    with gateway.http(key=None) as http:
        headers = {} if header is None else {"Authorization": header}
        answer = http.post("/v1/chat/completions", json={"model": "Chat", "messages": HELLO}, headers=headers)
    assert refusal(answer) == (401, "invalid_api_key")
    assert answer.json()["error"]["type"] == "authentication_error"


# What it costs


@pytest.mark.parametrize("route", ROUTES)
def test_a_budget_that_is_used_up_is_a_402_which_clients_do_not_repeat(
    route: str, asking: dict[str, Ask], new_key: Callable[..., str]
) -> None:
    key = new_key(max_budget=1e-4)
    assert asking[route](key, ROUTES[route][0]).status_code == 200
    eventually(lambda: asking[route](key, ROUTES[route][0]).status_code != 200, within_s=5)
    refused = asking[route](key, ROUTES[route][0])
    assert refusal(refused) == (402, "insufficient_quota")
    assert refused.json()["error"]["type"] == "insufficient_quota"
    assert "retry-after" not in refused.headers


def test_a_used_up_budget_leaves_what_costs_nothing(gateway: Gateway, new_key: Callable[..., str]) -> None:
    key = new_key(max_budget=0)
    assert refusal(ask_chat(gateway, key)) == (402, "insufficient_quota")
    assert ask_chat(gateway, key, "Chat-Too").status_code == 200


def test_a_users_budget_holds_for_all_their_keys(
    gateway: Gateway, admin: httpx.Client, new_key: Callable[..., str]
) -> None:
    user = admin.post("/user/new", json={"max_budget": 1e-4, "auto_create_key": False}).json()["user_id"]
    assert ask_chat(gateway, new_key(user_id=user)).status_code == 200
    eventually(lambda: ask_chat(gateway, new_key(user_id=user)).status_code != 200, within_s=5)
    assert refusal(ask_chat(gateway, new_key(user_id=user))) == (402, "insufficient_quota")


def spend_of(admin: httpx.Client, key: str) -> float:
    return float(admin.get("/key/info", params={"key": key}).json()["info"]["spend"])


def rows_of(admin: httpx.Client, key: str) -> list[dict[str, Any]]:
    """The request log of a key."""
    answer = admin.get("/spend/logs", params={"api_key": hashlib.sha256(key.encode()).hexdigest()})
    return list(answer.json())


def written(gateway: Gateway, admin: httpx.Client, key: str) -> None:
    """Wait until what was asked so far is in the database: what is asked now is written after it."""
    assert ask_chat(gateway, key).status_code == 200
    eventually(lambda: bool(rows_of(admin, key)) and spend_of(admin, key) > 0)


def test_each_call_is_paid_by_its_models_price_and_logged_once(
    gateway: Gateway, admin: httpx.Client, asking: dict[str, Ask], recording: bytes, new_key: Callable[..., str]
) -> None:
    keys = {route: new_key() for route in ROUTES}
    tokens = asking["chat"](keys["chat"], "Chat").json()["usage"]
    heard = asking["transcriptions"](keys["transcriptions"], "Ears", response_format="verbose_json").json()
    for route in ("completions", "responses", "messages", "speech"):
        assert asking[route](keys[route], ROUTES[route][0]).status_code == 200
    expected = {
        "chat": 0.001 * tokens["prompt_tokens"] + 0.002 * tokens["completion_tokens"],
        "transcriptions": 0.5 * heard["duration"],
        "speech": 0.01 * len("Yes."),
    }
    eventually(lambda: all(spend_of(admin, key) > 0 and rows_of(admin, key) for key in keys.values()))
    written(gateway, admin, new_key())
    assert {route: spend_of(admin, keys[route]) for route in expected} == pytest.approx(expected, rel=1e-3)
    for key in keys.values():
        (row,) = rows_of(admin, key)
        assert row["spend"] == pytest.approx(spend_of(admin, key))
        assert row["status"] == "success"


def test_without_a_price_a_call_is_logged_and_costs_nothing(
    admin: httpx.Client, asking: dict[str, Ask], new_key: Callable[..., str]
) -> None:
    keys = {route: new_key() for route in ("chat", "transcriptions", "speech")}
    for route, key in keys.items():
        assert asking[route](key, ROUTES[route][1]).status_code == 200
    eventually(lambda: all(rows_of(admin, key) for key in keys.values()))
    assert [spend_of(admin, key) for key in keys.values()] == [0, 0, 0]


def test_what_was_begun_is_paid_when_its_client_leaves_and_what_failed_is_not(
    gateway: Gateway, admin: httpx.Client, asking: dict[str, Ask], new_key: Callable[..., str]
) -> None:
    listener, reader, clumsy = new_key(), new_key(), new_key()
    streams = {
        listener: ("/v1/audio/speech", {"model": "Voice", **LONG}),
        reader: ("/v1/chat/completions", {"model": "Chat", "messages": STORY, "stream": True, "temperature": 0}),
    }
    for key, (path, body) in streams.items():
        with gateway.http(key) as http, http.stream("POST", path, json=body) as unfinished:
            chunks = unfinished.iter_raw()
            next(chunks)
    assert asking["transcriptions"](clumsy, "Ears", temperature="9").status_code == 400
    assert asking["speech"](clumsy, "Voice", voice="nobody").status_code == 400

    eventually(lambda: all(spend_of(admin, key) > 0 and rows_of(admin, key) for key in streams))
    written(gateway, admin, new_key())
    spaces = str(LONG["input"]).count(" ")
    assert spend_of(admin, listener) == pytest.approx(0.01 * (len(str(LONG["input"])) - spaces))
    assert len(rows_of(admin, listener)) == len(rows_of(admin, reader)) == 1
    assert len(rows_of(admin, clumsy)) == 2
    assert {row["status"] for row in rows_of(admin, clumsy)} == {"failure"}
    assert spend_of(admin, clumsy) == 0


def test_nothing_in_a_request_makes_it_free_or_keeps_it_out_of_the_log(
    gateway: Gateway, admin: httpx.Client, asking: dict[str, Ask], new_key: Callable[..., str]
) -> None:
    """Each of these did once. What LiteLLM would obey is refused, what it would stumble over is left out."""
    members: list[tuple[str, Any]] = [
        *((name, True) for name in ("no-log", "cache_hit", "litellm_params", "vector_store_request_metadata")),
        *(("metadata", {name: "x"}) for name in ("vector_store_request_metadata", "mcp_tool_call_metadata")),
        ("call_type", {"an": "object"}),
    ]
    served = []
    for route, (model, _) in ROUTES.items():
        for name, value in members:
            key = new_key()
            sent = json.dumps(value) if route == "transcriptions" else value
            answer = asking[route](key, model, **{name: sent})
            assert answer.status_code in (200, 400), answer.text
            if answer.status_code == 200:
                served.append(key)
    assert len(served) > 15
    eventually(lambda: all(spend_of(admin, key) > 0 and rows_of(admin, key) for key in served), within_s=60)


def test_a_row_that_the_database_refuses_takes_no_other_with_it(
    gateway: Gateway, admin: httpx.Client, new_key: Callable[..., str]
) -> None:
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    refused, after = new_key(), new_key()
    with gateway.http(refused) as http:
        body = {"model": "Chat", "messages": HELLO, "max_tokens": 2}
        headers = {"x-litellm-spend-logs-metadata": json.dumps({"a": deep})}
        assert http.post("/v1/chat/completions", json=body, headers=headers).status_code == 200
    assert ask_chat(gateway, after).status_code == 200
    eventually(lambda: bool(rows_of(admin, after)))
    eventually(lambda: spend_of(admin, refused) > 0)


# Whose key it is


def test_a_key_sees_itself_and_no_other_key(gateway: Gateway, new_key: Callable[..., str]) -> None:
    mine, other = new_key(), new_key()
    with gateway.http(mine) as http:
        assert http.get("/key/info").status_code == 200
        assert http.get("/key/info", params={"key": mine}).status_code == 200
        for name in (other, hashlib.sha256(other.encode()).hexdigest()):
            assert refusal(http.get("/key/info", params={"key": name})) == (403, "admin_key_needed")
        for path in ("/key/list", "/key/aliases"):
            assert refusal(http.get(path)) == (403, "admin_key_needed")


@pytest.mark.parametrize("path", ["generate", "update", "delete", "block", "unblock"])
def test_a_key_can_change_no_key_not_even_itself(gateway: Gateway, new_key: Callable[..., str], path: str) -> None:
    mine, other = new_key(), new_key()
    with gateway.http(mine) as http:
        for key in (mine, other):
            answer = http.post(f"/key/{path}", json={"key": key, "keys": [key], "models": [], "max_budget": 99})
            assert refusal(answer) == (403, "admin_key_needed")
    assert ask_chat(gateway, other).status_code == 200


# When the database is away


def test_without_the_database_known_keys_are_served_and_others_are_asked_to_come_back(
    gateway: Gateway, folder: Path, admin: httpx.Client, new_key: Callable[..., str]
) -> None:
    data = folder / "state" / "database" / "postgres" / "data"
    known, unknown = new_key(), new_key()
    assert ask_chat(gateway, known).status_code == 200
    processes = list(processes_in(data))
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        assert ask_chat(gateway, known).status_code == 200
        assert ask_chat(gateway, MASTER_KEY).status_code == 200
        with ThreadPoolExecutor() as pool:
            asked = [
                pool.submit(ask_chat, gateway, unknown),
                pool.submit(ask_chat, gateway, "sk-a-key-of-nobody"),
                pool.submit(admin.post, "/key/generate", json={}),
                pool.submit(admin.post, "/key/update", json={"key": known, "max_budget": 1}),
                pool.submit(admin.get, "/key/info", params={"key": known}),
                pool.submit(admin.get, "/key/list"),
            ]
            for answer in (each.result() for each in asked):
                assert refusal(answer) == (503, "database_unavailable"), answer.text
                assert int(answer.headers["retry-after"]) > 0
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)
    eventually(lambda: ask_chat(gateway, unknown).status_code == 200)
    eventually(lambda: len(rows_of(admin, known)) == 2, within_s=60)


def test_a_killed_database_comes_back_by_itself(gateway: Gateway, folder: Path, new_key: Callable[..., str]) -> None:
    kept = new_key(models=["Chat"])
    server = PidFile.read(folder / "state" / "database" / "postgres" / "data")
    assert server is not None
    os.kill(server.pid, signal.SIGKILL)
    seen = set()

    def served() -> bool:
        answer = ask_chat(gateway, kept)
        seen.add(answer.status_code)
        return answer.status_code == 200

    eventually(served)
    assert seen <= {200, 503}


# The end


def test_nothing_private_was_logged(gateway: Gateway, folder: Path, new_key: Callable[..., str]) -> None:
    key = new_key()
    with pytest.raises(openai.AuthenticationError):
        gateway.openai(key + "x").models.list()
    assert gateway.stop() == 0
    log = "".join(gateway.log)
    private = ("sk-", hashlib.sha256(key.encode()).hexdigest(), "SELECT", "Traceback", "Say hello", SENTENCE)
    for words in (*private, "apscheduler"):
        assert words not in log
    assert str(folder) not in log
