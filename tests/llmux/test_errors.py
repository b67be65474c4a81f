import pytest

from llmux import errors
from vram import refusal


def subclasses(kind: type[errors.LlmuxError]) -> list[type[errors.LlmuxError]]:
    return [kind, *(each for child in kind.__subclasses__() for each in subclasses(child))]


@pytest.mark.parametrize("kind", subclasses(errors.LlmuxError))
def test_every_error_is_openai_shaped_and_drawn_in_the_tree(kind: type[errors.LlmuxError]) -> None:
    error = kind("what is wrong and what to do", param="model")
    assert error.body() == {
        "error": {"message": "what is wrong and what to do", "type": kind.type, "param": "model", "code": kind.code}
    }
    assert kind.__name__ in (errors.__doc__ or "")
    assert str(kind.status_code) in (errors.__doc__ or "") or kind is errors.LlmuxError


def test_what_may_pass_says_when_to_come_back() -> None:
    assert errors.QueueFull("full", retry_after_s=6.6).response_headers() == {"Retry-After": "7"}
    assert errors.QueueFull("full", retry_after_s=0.1).response_headers() == {"Retry-After": "1"}
    assert errors.InsufficientVram("never").response_headers() == {}


def test_a_rewritten_message_does_not_reach_the_client() -> None:
    error = errors.InvalidRequest("the truth")
    error.message = "the truth, and a model group"
    assert error.body()["error"]["message"] == "the truth"


@pytest.mark.parametrize(
    ("refused", "kind", "words"),
    [
        (refusal.QueueFull(64, 64, 7), errors.QueueFull, "64 requests are waiting already"),
        (refusal.LoadFailed("large", 7), errors.LoadFailed, "large could not be loaded"),
        (refusal.OutOfMemory("large", 7), errors.LoadFailed, "no memory left for large"),
        (refusal.DeviceLost("large", "GPU 0000:01:00.0 is lost", 7), errors.DeviceLost, "the GPU does not answer"),
    ],
)
def test_a_refusal_that_may_pass_is_a_503_that_says_when_to_come_back(
    refused: refusal.Refused, kind: type[errors.LlmuxError], words: str
) -> None:
    error = errors.of_refusal(refused)

    assert type(error) is kind
    assert error.status_code == 503
    assert error.response_headers() == {"Retry-After": "7"}
    assert words in str(error)
    assert "0000" not in str(error)


def test_a_gpu_that_failed_is_a_503_until_the_gateway_is_up_again() -> None:
    error = errors.of_refusal(refusal.DeviceFailed("CUDA error: device-side assert triggered"))

    assert (type(error), error.status_code) == (errors.DeviceFailed, 503)
    assert error.response_headers() == {"Retry-After": "30"}
    assert "CUDA" not in str(error)


def test_a_model_that_can_never_fit_is_not_worth_a_retry() -> None:
    error = errors.of_refusal(refusal.NeverFits("large", 17 * 10**9, 16 * 10**9))

    assert (type(error), error.status_code) == (errors.InsufficientVram, 400)
    assert "17.00 GB and the budget is 16.00 GB" in str(error)
