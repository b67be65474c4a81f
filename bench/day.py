"""One day of a small office on a 16 GB card, made from a seed: `python -m bench.day` writes bench/traces/day.jsonl.

Six people chat in Open WebUI, which follows every answer with a title and a tag call on the model of the chat. Two
write code with OpenCode: long turns, each a loop of answers and tools, and a title call on its small model beside the
first of a session. Three dictate in bursts. Some talk to a model: recognition, chat, and speech that starts while the
chat still streams. They keep office hours, so they meet.

The trace was written before any policy was tuned on it, and is not to be changed because of how one does on it.
"""

import random
from collections.abc import Callable

from bench.trace import TRACES, Asked, Trace, specs

SEED = 20250301

BUDGET_BYTES = 16_000_000_000

LOAD_BYTES_PER_S = 2e9
"""Weights from an NVMe disk into a process and on to the card."""

UNLOAD_S = 0.5
"""Ollama's observation: the driver reports memory as free about half a second after it was given back."""

MODELS = {
    # As configured: no checkpoint of these could be measured here.
    "qwen3.5-9b-fp8": ("llm", 9_000_000_000),
    "qwen3.5-9b-fp8-uncensored": ("llm", 9_000_000_000),
    "cohere-transcribe": ("asr", 4_000_000_000),
    "chatterbox-turbo": ("tts", 2_000_000_000),
    "chatterbox-multilingual": ("tts", 2_000_000_000),
    "chatterbox": ("tts", 2_000_000_000),
    # 4.66 billion parameters in bf16.
    "qwen3.5-4b": ("llm", 9_300_000_000),
    # 12.8 GiB, as gpt-oss's model card gives its checkpoint; its uncensored copy once it is quantised alike.
    "gpt-oss-20b": ("llm", 13_700_000_000),
    "gpt-oss-20b-uncensored": ("llm", 13_700_000_000),
}

TOKENS_PER_S = {
    "qwen3.5-9b-fp8": 60,
    "qwen3.5-9b-fp8-uncensored": 55,
    "qwen3.5-4b": 70,
    "gpt-oss-20b": 110,
    "gpt-oss-20b-uncensored": 110,
}

HOURS = {8: 2, 9: 5, 10: 6, 11: 6, 12: 3, 13: 4, 14: 6, 15: 6, 16: 5, 17: 4, 18: 2, 19: 2, 20: 3, 21: 3, 22: 1}
"""How often something begins in each hour of the day."""


class Day:
    """Collects requests; each method adds one habit and returns the index of its last request."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.requests: list[Asked] = []

    def moment(self) -> float:
        """Seconds after midnight when something begins."""
        hour = self._random.choices(list(HOURS), list(HOURS.values()))[0]
        return round((hour + self._random.random()) * 3600, 1)

    def ask(self, model: str, service_s: float, delay_s: float, after: int | None = None, *, end: bool = True) -> int:
        self.requests.append(Asked(model, round(service_s, 2), round(delay_s, 1), after, "end" if end else "start"))
        return len(self.requests) - 1

    def answer_s(self, model: str, median_tokens: float) -> float:
        """Prompt and answer of a chat model."""
        return 0.3 + self._random.lognormvariate(0, 0.6) * median_tokens / TOKENS_PER_S[model]

    def pause_s(self, median_s: float) -> float:
        return self._random.lognormvariate(0, 0.7) * median_s

    def open_webui(self, favourite: str) -> None:
        others = ["qwen3.5-9b-fp8", "qwen3.5-4b", "gpt-oss-20b", "qwen3.5-9b-fp8-uncensored", "gpt-oss-20b-uncensored"]
        model = favourite if self._random.random() < 0.7 else self._random.choices(others, [5, 3, 4, 1, 1])[0]
        last = None
        for _ in range(self._random.randint(2, 12)):
            pause_s = self.moment() if last is None else self.pause_s(50)
            last = self.ask(model, self.answer_s(model, 450), pause_s, last)
            self.ask(model, self.answer_s(model, 30), 0.1, last)
            self.ask(model, self.answer_s(model, 40), 0.1, last)
            if self._random.random() < 0.06:
                self.ask("chatterbox-turbo", 2 + self._random.random() * 6, 4, last)

    def open_code(self, model: str) -> None:
        last = None
        for turn in range(self._random.randint(1, 6)):
            for step in range(self._random.randint(3, 20)):
                if last is None:
                    start_s = self.moment()
                    self.ask("qwen3.5-4b", self.answer_s("qwen3.5-4b", 20), start_s)
                    last = self.ask(model, 2 + self.answer_s(model, 250), start_s)
                else:
                    pause_s = self.pause_s(90) if turn and not step else self.pause_s(1.5)
                    last = self.ask(model, 0.5 + self.answer_s(model, 250), pause_s, last)

    def dictation(self) -> None:
        last = self.ask("cohere-transcribe", 0.4 + self._random.random(), self.moment())
        for _ in range(self._random.randint(3, 18)):
            last = self.ask("cohere-transcribe", 0.4 + self._random.random(), self.pause_s(9), last)

    def voice_call(self) -> None:
        chat = self._random.choice(["qwen3.5-9b-fp8", "qwen3.5-4b"])
        voice = self._random.choice(["chatterbox-turbo", "chatterbox-multilingual", "chatterbox"])
        heard = self.ask("cohere-transcribe", 0.5, self.moment())
        for _ in range(self._random.randint(4, 14)):
            answered = self.ask(chat, self.answer_s(chat, 120), 0.1, heard)
            self.ask(voice, 1 + self._random.random(), 0.8, answered, end=False)
            spoken = self.ask(voice, 1 + 2 * self._random.random(), 0.1, answered)
            heard = self.ask("cohere-transcribe", 0.3 + self._random.random() / 2, self.pause_s(6), spoken)


def day(seed: int = SEED) -> Trace:
    made = Day(seed)
    habits: list[tuple[int, Callable[[], None]]] = [
        *((8, lambda model=model: made.open_webui(model)) for model in ("qwen3.5-9b-fp8",) * 3),
        *((8, lambda model=model: made.open_webui(model)) for model in ("gpt-oss-20b",) * 2),
        (8, lambda: made.open_webui("qwen3.5-4b")),
        (6, lambda: made.open_code("gpt-oss-20b")),
        (6, lambda: made.open_code("qwen3.5-9b-fp8")),
        *((7, made.dictation) for _ in range(3)),
        (8, made.voice_call),
    ]
    for times, habit in habits:
        for _ in range(times):
            habit()
    return Trace(
        about=f"one day of a small office, seed {seed}",
        budget_bytes=BUDGET_BYTES,
        load_bytes_per_s=LOAD_BYTES_PER_S,
        unload_s=UNLOAD_S,
        models=specs(MODELS),
        requests=tuple(made.requests),
    )


def main() -> None:
    """Write the file."""
    path = TRACES / "day.jsonl"
    trace = day()
    path.write_text(trace.text(), encoding="utf-8")
    print(f"{path.name}: {len(trace.requests)} requests, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
