"""How much of what is asked a model's context holds."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmux.errors import ContextLengthExceeded, InvalidRequest
from providers.context import answer_tokens, fitting_context

TOKENS = st.integers(1, 10_000)


@given(TOKENS, TOKENS, st.none() | TOKENS)
def test_prompt_and_answer_fit_together_and_an_answer_has_at_least_one_token(
    prompt: int, more: int, wanted: int | None
) -> None:
    most = answer_tokens(prompt, prompt + more, wanted)
    assert 1 <= most <= more
    assert most in (more, wanted)


@pytest.mark.parametrize("context", [1, 7])
def test_a_prompt_that_leaves_no_room_is_refused_with_both_numbers(context: int) -> None:
    with pytest.raises(ContextLengthExceeded, match=rf"has 7 tokens; the model's context holds {context}, answer"):
        answer_tokens(7, context, None)


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="the prompt is empty"):
        answer_tokens(0, 7, None)


def test_a_context_beyond_what_the_model_learnt_is_cut_and_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert fitting_context("model", 100, 64) == 64
    assert "model: context 64 instead of 100" in caplog.text
    assert fitting_context("model", 64, 100) == 64
    assert len(caplog.messages) == 1
