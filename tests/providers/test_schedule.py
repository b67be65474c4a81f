"""What takes part in the next step."""

from hypothesis import given
from hypothesis import strategies as st

from providers.schedule import STALL_S, Budget, shares

LEFT = st.lists(st.integers(0, 5000), max_size=12)
BUDGETS = st.integers(1, 512)


def test_answers_go_on_with_one_token_each_beside_a_prompt() -> None:
    assert shares([0, 1000, 0], 64) == [1, 64, 1]


def test_the_first_prompt_goes_on_and_the_shorter_ones_overtake_it() -> None:
    assert shares([4000, 2000, 20], 64) == [32, 12, 20]


def test_prompts_of_one_length_are_computed_one_after_the_other() -> None:
    assert shares([500, 500, 500], 64) == [64, 0, 0]


def test_what_one_prompt_does_not_need_is_for_the_others() -> None:
    assert shares([10, 2000], 64) == [10, 54]


@given(LEFT, BUDGETS)
def test_every_answer_goes_on(left: list[int], budget: int) -> None:
    assert all(taken == 1 for tokens, taken in zip(left, shares(left, budget), strict=True) if tokens == 0)


@given(LEFT, BUDGETS)
def test_prompts_take_all_of_the_budget_that_they_can_use_and_no_more(left: list[int], budget: int) -> None:
    prompts = [(tokens, taken) for tokens, taken in zip(left, shares(left, budget), strict=True) if tokens]
    assert all(0 <= taken <= tokens for tokens, taken in prompts)
    assert sum(taken for _, taken in prompts) == min(budget, sum(tokens for tokens, _ in prompts))


@given(LEFT.filter(any), BUDGETS)
def test_the_prompt_that_came_first_gets_half_at_least(left: list[int], budget: int) -> None:
    first = next(index for index, tokens in enumerate(left) if tokens)
    assert shares(left, budget)[first] >= min(left[first], budget / 2)


@given(LEFT, BUDGETS)
def test_every_prompt_comes_to_its_end(left: list[int], budget: int) -> None:
    for _ in range(2 * sum(left) // budget + len(left) + 1):
        left = [tokens - min(tokens, taken) for tokens, taken in zip(left, shares(left, budget), strict=True)]
    assert not any(left)


def test_a_prompt_that_stalls_nobody_gets_whole_steps() -> None:
    assert Budget(256).tokens(answers=0, prompts=1) == 256


def test_a_step_beside_answers_is_as_long_as_they_may_be_stalled() -> None:
    budget = Budget(256)
    assert budget.tokens(answers=1, prompts=1) < 64, "nothing is known of this machine yet"
    budget.learn(256, 1.0)
    assert budget.tokens(answers=1, prompts=1) == int(256 * STALL_S)
    assert budget.tokens(answers=3, prompts=1) == int(256 * STALL_S)
    budget.learn(256, 0.01)
    assert budget.tokens(answers=1, prompts=1) == 256


def test_where_more_wait_than_listen_prompts_may_stall_longer() -> None:
    budget = Budget(256)
    budget.learn(256, 1.0)
    assert budget.tokens(answers=2, prompts=6) == int(3 * 256 * STALL_S)


@given(
    st.lists(st.tuples(st.integers(0, 256), st.floats(0, 100))),
    st.integers(1, 256),
    st.integers(0, 64),
    st.integers(1, 64),
)
def test_a_step_always_takes_something_and_never_too_much(
    steps: list[tuple[int, float]], most: int, answers: int, prompts: int
) -> None:
    budget = Budget(most)
    for tokens, seconds in steps:
        budget.learn(tokens, seconds)
    assert 1 <= budget.tokens(answers=answers, prompts=prompts) <= most
