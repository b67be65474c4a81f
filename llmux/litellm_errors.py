"""What LiteLLM refuses, in this project's words: what is wrong, what to do, and whether to try again.

LiteLLM says these things in its own way: with the hash of a key, a table of its database or a path, and with statuses
that clients misread (docs/errors.md says which and why).
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence

from llmux.errors import (
    AdminKeyNeeded,
    BudgetExhausted,
    DatabaseUnavailable,
    InvalidRequest,
    KeyBlocked,
    KeyExpired,
    LlmuxError,
    PermissionDenied,
    RateLimited,
    Unauthenticated,
)

_WINDOW_S = 60.0
"""LiteLLM counts requests and tokens by the minute."""

_SOON_S = 1.0
"""When a key has too many requests at one time, the next one is in order as soon as one of them is answered."""

_OWNERS: Mapping[str, str] = {"api_key": "this key", "model_per_key": "this key, of this model,"}

_LIMITS: Mapping[str, tuple[str, float]] = {
    "requests": ("requests a minute", _WINDOW_S),
    "tokens": ("tokens a minute", _WINDOW_S),
    "max_parallel_requests": ("requests at one time", _SOON_S),
}


def _rate_limited(said: re.Match[str]) -> LlmuxError:
    owner = _OWNERS.get(said["owner"], f"the {said['owner'].replace('_', ' ')} of this key")
    unit, retry_after_s = _LIMITS.get(said["unit"], ("requests a minute", _WINDOW_S))
    return RateLimited(f"{owner} may use {said['most']} {unit}; try again later", retry_after_s=retry_after_s)


def _over_budget(said: re.Match[str]) -> LlmuxError:
    owner = "this key" if said["owner"] in (None, "Key") else f"the {said['owner'].lower()} of this key"
    return BudgetExhausted(
        f"the budget of {owner}, {float(said['most']):g}, is used up ({float(said['spent']):.6g} spent); "
        "whoever runs this gateway can raise it"
    )


_RULES: Sequence[tuple[str, Callable[[re.Match[str]], LlmuxError]]] = (
    (
        r"401 auth_error: .*No api key passed in",
        lambda _: Unauthenticated("no API key; send the header Authorization: Bearer <key>"),
    ),
    (
        r"401 token_not_found_in_db:|401 auth_error: LiteLLM Virtual Key expected",
        lambda _: Unauthenticated("this API key is not known; whoever runs this gateway can make one"),
    ),
    (
        r"401 expired_key: .*Key Expiry time (?P<when>[\d-]+ [\d:]+)",
        lambda said: KeyExpired(f"this API key has expired, at {said['when']} UTC"),
    ),
    (
        r"401 auth_error: .*\bis blocked\b",
        lambda _: KeyBlocked("this API key is blocked; whoever runs this gateway can unblock it"),
    ),
    (
        r"403 \w+_model_access_denied:",
        lambda _: PermissionDenied("this key may not use this model; GET /v1/models lists what it may", param="model"),
    ),
    (
        r"40[13] \w+: .*(?:Only proxy admin can|No 'user_id' is associated|not allowed to access this key's info)",
        lambda _: AdminKeyNeeded("this takes the key of whoever runs this gateway"),
    ),
    (
        r"\d+ budget_exceeded:(?:.*?\b(?P<owner>Key|Team|User)=)?"
        r".*?cost: (?P<spent>[\d.e+-]+), .*?budget: (?P<most>[\d.e+-]+)",
        _over_budget,
    ),
    (
        r"\d+ budget_exceeded:",
        lambda _: BudgetExhausted("a budget that this key draws on is used up; whoever runs this gateway can raise it"),
    ),
    (
        r"429 \w+: Rate limit exceeded for (?P<owner>\w+):.*Limit type: (?P<unit>\w+)\. Current limit: (?P<most>\d+)",
        _rate_limited,
    ),
    (
        r"503 no_db_connection:|\d+ \w+: Authentication Error,\s*$"  # a time-out of LiteLLM's own has no words
        r"|\d+ \w+: (?:Authentication Error, )?The database did not answer in time"
        r"|\d+ (?:auth_error|internal_server_error): (?:Authentication Error, )?"
        r"(?:Can't reach database server|Server disconnected without|All connection attempts failed"
        r"|Timed out fetching a new connection|\{'error': 'Internal Server Error)",
        lambda _: DatabaseUnavailable("the gateway cannot reach the database that its keys live in; try again shortly"),
    ),
    (
        r"500 bad_request_error: Invalid type for '(?P<name>\w+)': expected an object",  # as a form's routes have it
        lambda said: InvalidRequest(f"{said['name']} must be an object", param=said["name"]),
    ),
    (
        r"500 \w+: [^\n]*: line \d+ column \d+ \(char \d+\)$",  # NaN, which the route of speech does not read
        lambda _: InvalidRequest("the body is not the JSON of an object"),
    ),
    (
        r"\d+ internal_server_error: .*LiteLLM Enterprise",
        lambda _: InvalidRequest("this is a part of LiteLLM Enterprise, which llmux is without"),
    ),
)
"""What an error means whose "<status> <type>: <message>" begins like this."""


def of_litellm(status: int, body: bytes) -> LlmuxError | None:
    """The error that an answer of LiteLLM's stands for, or None for one that may be told as it is."""
    try:
        answer = json.loads(body)
        error = answer.get("error") or {"type": None, "message": answer["detail"]}
        return meaning(status, error["type"], str(error["message"]))
    except (ValueError, LookupError, AttributeError, TypeError):
        return None


def meaning(status: int | str, kind: str | None, message: str) -> LlmuxError | None:
    """The error that LiteLLM means by a status, a type and a message; None for one that may be told as it is."""
    said = f"{status} {kind}: {message.removeprefix('litellm.RateLimitError: ')}"
    for beginning, error in _RULES:
        if found := re.match(beginning, said, re.DOTALL):
            return error(found)
    return None
