import pytest

from llmux import errors


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
