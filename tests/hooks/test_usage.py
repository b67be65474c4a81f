"""The chunk that tells what was used has no choices, and every other chunk is as it was."""

import pytest
from litellm.types.utils import (
    Delta,
    ModelResponseStream,
    StreamingChoices,
    TextChoices,
    TextCompletionResponse,
    Usage,
)

from hooks.usage import without_silence


def test_the_usage_comes_without_choices() -> None:
    choices = [StreamingChoices(index=0, delta=Delta())]
    usage = Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    chunk = without_silence(ModelResponseStream(choices=choices, usage=usage))
    assert chunk.choices == []
    assert chunk.usage.total_tokens == 3


@pytest.mark.parametrize(("text", "finish_reason"), [("Hi", None), ("", "length")])
def test_a_part_of_a_text_completion_keeps_its_choice_whatever_usage_litellm_gives_it(
    text: str, finish_reason: str | None
) -> None:
    answer = TextCompletionResponse(
        choices=[TextChoices(index=0, text=text, finish_reason=finish_reason)], usage=Usage()
    )
    assert len(without_silence(answer).choices) == 1


def test_the_end_of_one_answer_comes_without_the_silence_of_another() -> None:
    end = StreamingChoices(index=1, delta=Delta(), finish_reason="stop")
    chunk = without_silence(ModelResponseStream(choices=[StreamingChoices(index=0, delta=Delta()), end]))
    assert [choice.index for choice in chunk.choices] == [1]


def test_the_answer_passes_as_it_is() -> None:
    answer = ModelResponseStream(choices=[StreamingChoices(index=0, delta=Delta(content="Hi"))])
    for chunk in (answer, {"type": "response.created"}, b"data: x"):
        assert without_silence(chunk) is chunk
    assert answer.choices[0].delta.content == "Hi"
