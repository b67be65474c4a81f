"""The messages are LiteLLM 1.106.2's own, as they came over HTTP."""

import json
from typing import Any

import pytest

from llmux import errors
from llmux.litellm_errors import of_litellm

HASH = "1ea2a3a2439598b83c2cfd2d69dafe1ce8d6b5bf8e5233708be6b7ce22a2caeb"
UNKNOWN = (
    f"Authentication Error, Invalid proxy server token passed. Received API Key = sk-...body, Key Hash (Token) ={HASH}."
    " Unable to find token in cache or `LiteLLM_VerificationTokenTable`"
)
EXPIRED = (
    "Authentication Error - Expired Key. Key Expiry time 2026-11-24 02:57:32.534000+00:00 and current time "
    "2026-11-24 02:57:32.947709+00:00"
)
DENIED = "The requested model 'Chat' is not available for this API key, or the model name is invalid."
ADMIN = (
    "Authentication Error, Only proxy admin can be used to generate, delete, update info for new keys/users/teams. "
    "Route=/key/generate. Your role=unknown. Your user_id=*******"
)
BLOCKED = "Authentication Error, Key is blocked. Update via `/key/unblock` if you're an admin."
OVER = "Budget has been exceeded! Key=key (sk-...Gq0A) Current cost: 0.041, Max budget: 0.001"
OUTAGE = "Can't reach database server at `/tmp/postgres-m7_8gk_0:5432`"
TIMEOUT = "The database did not answer in time"
FORM = "Invalid type for 'metadata': expected an object, but got an array instead."
NO_JSON = "unexpected character: line 1 column 11 (char 10)"
ENTERPRISE = "Invalid model_max_budget: You must be a LiteLLM Enterprise user to use this feature."


def meaning(status: int, message: str, kind: str | None = "auth_error") -> errors.LlmuxError | None:
    body = {"error": {"message": message, "type": kind, "param": "None", "code": str(status)}}
    return of_litellm(status, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("status", "kind", "message", "meant", "words"),
    [
        (401, "auth_error", "Authentication Error, No api key passed in.", errors.Unauthenticated, "Bearer <key>"),
        (401, "token_not_found_in_db", UNKNOWN, errors.Unauthenticated, "is not known"),
        (401, "auth_error", "LiteLLM Virtual Key expected. Received=****", errors.Unauthenticated, "is not known"),
        (401, "expired_key", EXPIRED, errors.KeyExpired, "at 2026-11-24 02:57:32 UTC"),
        (401, "auth_error", BLOCKED, errors.KeyBlocked, "is blocked"),
        (403, "key_model_access_denied", DENIED, errors.PermissionDenied, "may not use this model"),
        (403, "team_model_access_denied", DENIED, errors.PermissionDenied, "may not use this model"),
        (401, "auth_error", ADMIN, errors.AdminKeyNeeded, "whoever runs this gateway"),
        (422, "budget_exceeded", OVER, errors.BudgetExhausted, "of this key, 0.001, is used up (0.041 spent)"),
        (422, "budget_exceeded", OVER.replace("Key=", "Team="), errors.BudgetExhausted, "of the team of this key"),
        (422, "budget_exceeded", "over budget", errors.BudgetExhausted, "a budget that this key draws on"),
        (400, "auth_error", "Authentication Error,", errors.DatabaseUnavailable, "cannot reach the database"),
        (503, "no_db_connection", "Service Unavailable", errors.DatabaseUnavailable, "cannot reach the database"),
        (500, "internal_server_error", TIMEOUT, errors.DatabaseUnavailable, "cannot reach the database"),
        (500, "None", TIMEOUT, errors.DatabaseUnavailable, "cannot reach the database"),
        (500, "internal_server_error", OUTAGE, errors.DatabaseUnavailable, "cannot reach the database"),
        (400, "auth_error", f"Authentication Error, {OUTAGE}", errors.DatabaseUnavailable, "cannot reach the database"),
        (500, "bad_request_error", FORM, errors.InvalidRequest, "metadata must be an object"),
        (500, "None", NO_JSON, errors.InvalidRequest, "not the JSON of an object"),
        (500, "internal_server_error", ENTERPRISE, errors.InvalidRequest, "LiteLLM Enterprise"),
    ],
)
def test_a_refusal_is_said_in_the_projects_words(
    status: int, kind: str, message: str, meant: type[errors.LlmuxError], words: str
) -> None:
    error = meaning(status, message, kind)
    assert type(error) is meant
    assert words in str(error)
    for private in (HASH, "sk-", "/tmp", "Table", "user_id"):
        assert private not in str(error)


def limited(unit: str, owner: str = "api_key") -> str:
    return (
        f"Rate limit exceeded for {owner}: {HASH}. Limit type: {unit}. Current limit: 2, Remaining: 0. "
        "Limit resets at: 2026-11-24 02:58:30 UTC"
    )


@pytest.mark.parametrize(
    ("unit", "words", "retry_after_s"),
    [
        ("requests", "this key may use 2 requests a minute", 60),
        ("tokens", "this key may use 2 tokens a minute", 60),
        ("max_parallel_requests", "this key may use 2 requests at one time", 1),
    ],
)
def test_a_limit_that_passes_says_when_to_come_back(unit: str, words: str, retry_after_s: float) -> None:
    error = meaning(429, limited(unit), "throttling_error")
    assert isinstance(error, errors.RateLimited)
    assert words in str(error)
    assert error.retry_after_s == retry_after_s


@pytest.mark.parametrize(
    ("owner", "words"),
    [("team", "the team of this key may"), ("model_per_key", "this key, of this model, may"), ("user", "the user of")],
)
def test_a_limit_says_whose_it_is(owner: str, words: str) -> None:
    assert words in str(meaning(429, limited("requests", owner), "throttling_error"))


@pytest.mark.parametrize(
    "body",
    [
        {"detail": limited("requests")},
        {"error": {"message": f"litellm.RateLimitError: {limited('requests')}", "type": "throttling_error"}},
        {"type": "error", "error": {"type": "rate_limit_error", "message": limited("requests")}},
    ],
)
def test_a_limit_is_recognised_in_the_shape_of_each_route(body: dict[str, Any]) -> None:
    assert isinstance(of_litellm(429, json.dumps(body).encode()), errors.RateLimited)


@pytest.mark.parametrize(
    "body", [b"", b"not JSON", b"[1]", b"{}", b'{"error": "no"}', b'{"detail": [{"loc": ["body"]}]}', b"null"]
)
def test_another_body_stands_for_nothing(body: bytes) -> None:
    assert of_litellm(401, body) is None


@pytest.mark.parametrize("message", [BLOCKED, OVER, OUTAGE, "what the user said is blocked"])
def test_what_a_client_said_is_not_taken_for_a_refusal(message: str) -> None:
    assert meaning(400, f"{message} is not a temperature", "invalid_request_error") is None
