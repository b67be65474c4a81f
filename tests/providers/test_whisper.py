from hypothesis import given
from hypothesis import strategies as st

from providers.whisper import repetition, split_at_timestamps

MEETING = "The meeting in London has been moved to Monday morning."

# What Whisper's timestamps mean. Timestamps count from 1000 here: 1000 is 0 s, 1050 is 1 s.


def test_segments_lie_between_timestamps() -> None:
    segments, advance_s = split_at_timestamps([1000, 1, 2, 1050, 1050, 3, 1100], 1000, 30.0)

    assert segments == [(0.0, 1.0, [1000, 1, 2, 1050]), (1.0, 2.0, [1050, 3, 1100])]
    assert advance_s == 30.0


def test_what_the_window_cut_off_is_heard_again() -> None:
    segments, advance_s = split_at_timestamps([1000, 1, 1050, 1050, 2, 3], 1000, 30.0)

    assert segments == [(0.0, 1.0, [1000, 1, 1050])]
    assert advance_s == 1.0


def test_a_window_that_ends_between_segments_is_taken_up_there() -> None:
    segments, advance_s = split_at_timestamps([1000, 1, 1050, 1060, 2, 1100, 1100], 1000, 30.0)

    assert segments == [(0.0, 1.0, [1000, 1, 1050]), (1.2, 2.0, [1060, 2, 1100])]
    assert advance_s == 2.0


def test_one_timestamp_alone_ends_the_only_segment() -> None:
    assert split_at_timestamps([1000, 1, 2, 1050], 1000, 30.0) == ([(0.0, 1.0, [1000, 1, 2, 1050])], 30.0)


def test_without_timestamps_the_window_is_one_segment() -> None:
    assert split_at_timestamps([1, 2], 1000, 12.5) == ([(0.0, 12.5, [1, 2])], 12.5)


def test_no_tokens_are_no_segment() -> None:
    assert split_at_timestamps([], 1000, 30.0) == ([], 30.0)


@given(st.lists(st.integers(0, 2500), max_size=40).map(lambda tokens: [min(token + 500, 2500) for token in tokens]))
def test_whatever_is_said_time_moves_on_within_the_window(tokens: list[int]) -> None:
    segments, advance_s = split_at_timestamps(tokens, 1000, 20.0)

    assert 0 < advance_s <= 20.0
    assert all(0 <= start_s <= 20.0 and 0 <= end_s <= 20.0 for start_s, end_s, _ in segments)
    said = [token for _, _, part in segments for token in part]
    assert said == tokens[: len(said)]


def test_a_loop_is_repetitive_and_a_sentence_is_not() -> None:
    assert repetition("the train " * 50) > 2.4
    assert repetition(MEETING) < 2.4
    assert repetition("") < 2.4
