"""The day is made from a seed, and the file is what the seed makes."""

from bench.day import SEED, day
from bench.trace import TRACES


def test_the_file_in_the_checkout_is_what_the_seed_makes() -> None:
    path = TRACES / "day.jsonl"
    assert path.read_text(encoding="utf-8") == day(SEED).text()
    assert path.stat().st_size < 300_000


def test_another_seed_is_another_day() -> None:
    assert day(1).requests != day(2).requests


def test_every_chat_answer_of_open_webui_is_followed_by_two_short_calls() -> None:
    requests = day().requests
    followed = [asked.after for asked in requests if asked.delay_s == 0.1 and asked.model.startswith(("qwen", "gpt"))]
    assert sum(followed.count(index) == 2 for index in set(followed)) > 200
