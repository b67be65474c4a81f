"""What is settled before any token is picked."""

import pytest

from llmux.errors import InvalidRequest
from providers.runtime import Sampling
from providers.sampler import check_bias, drawn_seed, filled, reads_words


def test_what_a_request_leaves_open_is_the_models_own() -> None:
    defaults = Sampling(temperature=0.6, top_k=20, top_p=0.95)
    assert filled(Sampling(temperature=0, top_k=0, seed=3), defaults) == Sampling(
        temperature=0, top_k=0, top_p=0.95, seed=3
    )


@pytest.mark.parametrize("token", [-1, 10])
def test_a_bias_on_a_token_that_there_is_not_is_refused(token: int) -> None:
    with pytest.raises(InvalidRequest, match=f"names token {token}; the model has 0 to 9"):
        check_bias(Sampling(logit_bias={1: 1.0, token: 1.0}), 10)


def test_a_seed_is_the_requests_or_a_new_one_each_time() -> None:
    assert drawn_seed(Sampling(seed=-3)) == -3
    assert drawn_seed(Sampling()) != drawn_seed(Sampling())


@pytest.mark.parametrize(
    ("sampling", "reads"),
    [
        (Sampling(), False),
        (Sampling(temperature=0.5), False),
        (Sampling(grammar="start: /a/"), True),
        (Sampling(logprobs=0), True),
    ],
)
def test_grammars_and_logprobs_read_what_tokens_stand_for(sampling: Sampling, reads: bool) -> None:
    assert reads_words(sampling) is reads
