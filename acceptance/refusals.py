"""What is not served is refused in the way that clients understand."""

import json
from collections.abc import Mapping

import httpx

from acceptance.chat import HELLO
from acceptance.check import Skipped, check, expect
from acceptance.gateway import Gateway


def judge_refusal(answer: httpx.Response, status: int, code: str | None = None) -> str:
    """Raises Failed unless the answer has this status, and OpenAI's object for an error, with this code if any."""
    expect(answer.status_code == status, f"the status is {answer.status_code}, and should be {status}")
    expect("Traceback" not in answer.text and '.py"' not in answer.text, "the answer shows a traceback")
    try:
        error = answer.json()["error"]
        shaped = isinstance(error, dict) and {"message", "type", "param", "code"} <= set(error)
    except (json.JSONDecodeError, KeyError, TypeError):
        shaped = False
    expect(shaped, "the body is not OpenAI's object for an error")
    expect(code is None or error["code"] == code, f"the code is {error['code']!r}, and should be {code!r}")
    return str(error["message"])


@check("refuses a missing, a malformed and a wrong key with 401")
def keys(gateway: Gateway) -> str:
    for header in (None, "Bearer sk-of-nobody-in-this-place", "Basic dXNlcjpwYXNz"):
        headers = {} if header is None else {"Authorization": header}
        judge_refusal(gateway.stranger.get("/v1/models", headers=headers), 401)
        body = {"model": "any", "messages": HELLO}
        judge_refusal(gateway.stranger.post("/v1/chat/completions", json=body, headers=headers), 401)
    return ""


@check("refuses an unknown model with 404, and none with 400")
def unknown_model(gateway: Gateway) -> str:
    chat = "/v1/chat/completions"
    judge_refusal(gateway.http.post(chat, json={"messages": HELLO}), 400)
    return judge_refusal(
        gateway.http.post(chat, json={"model": "no-such-model", "messages": HELLO}), 404, "model_not_found"
    )


@check("refuses a model of another task with 400")
def wrong_task(gateway: Gateway) -> str:
    chats, voices, ears = (gateway.names(task) for task in ("llm", "tts", "asr"))
    if not chats or not (voices or ears):
        raise Skipped("all models are of one task")
    for name in [*voices[:1], *ears[:1]]:
        answer = gateway.http.post("/v1/chat/completions", json={"model": name, "messages": HELLO})
        judge_refusal(answer, 400, "wrong_task")
    answer = gateway.http.post("/v1/audio/speech", json={"model": chats[0], "input": "No.", "voice": "default"})
    return judge_refusal(answer, 400, "wrong_task")


@check("refuses a request that makes no sense with 400, and shows nothing of itself")
def nonsense(gateway: Gateway) -> str:
    headers: Mapping[str, str] = {"Content-Type": "application/json"}
    judge_refusal(gateway.http.post("/v1/chat/completions", content=b"{", headers=headers), 400)
    for name in gateway.names("llm")[:1]:
        judge_refusal(gateway.http.post("/v1/chat/completions", json={"model": name, "messages": []}), 400)
    return ""


CHECKS = (keys, unknown_model, wrong_task, nonsense)
