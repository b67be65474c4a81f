"""OpenAI's Whisper (Radford et al. 2022), with the paper's own rules against silence, loops and low confidence."""

import zlib
from collections.abc import Hashable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from providers.alignment import align, grouped
from providers.batch import Row
from providers.construction import TURN
from providers.recognizer import SAMPLE_RATE, Heard, Sound, device, stop_when
from providers.runtime import Segment, Word
from providers.worker import Cancelled

_TIMESTAMP_S = 0.02
"""What one step between Whisper's timestamp tokens means."""

# Section 4.5 of the paper.
_TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_REPETITIVE = 2.4
_UNSURE = -1.0
_NO_SPEECH = 0.6


class Whisper:
    """A Recognizer."""

    detects_language = True

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        self._device = device()
        dtype = torch.float16 if self._device == "cuda" else torch.float32
        with TURN:
            self._model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=dtype, local_files_only=True)
        self._model.to(self._device).eval()
        processor = WhisperProcessor.from_pretrained(folder, local_files_only=True)
        self._features = processor.feature_extractor
        self._tokenizer = processor.tokenizer
        config = self._model.generation_config
        self._start: int = config.decoder_start_token_id
        self._end: int = config.eos_token_id
        self._no_timestamps: int = config.no_timestamps_token_id
        self._no_speech: int = config.no_timestamps_token_id - 1
        self._transcribe: list[int] = []
        self._language_tokens: dict[str, int] = {}
        if config.is_multilingual:
            self._transcribe = [config.task_to_id["transcribe"]]
            self._language_tokens = {token.strip("<|>"): number for token, number in config.lang_to_id.items()}
        self.languages: Sequence[str] = tuple(sorted(self._language_tokens)) or ("en",)
        self._heads: Sequence[tuple[int, int]] = getattr(config, "alignment_heads", None) or ()
        self.tells_words = bool(self._heads)
        self._prompt = lru_cache(maxsize=8)(self._prompt_tokens)

    def alike(self, sound: Sound) -> Hashable:
        return len(self._prompt(sound.prompt)), sound.temperature

    def hear(self, rows: Sequence[Row[Sound]]) -> Sequence[Heard]:
        import torch

        sounds, cancelled = [row.job for row in rows], [row.cancelled for row in rows]
        nothing = [Heard((), len(sound.samples)) for sound in sounds]
        with torch.inference_mode():
            encoded = self._encode(sounds, cancelled)
            if encoded is None:
                return nothing
            languages, no_speech = self._languages(encoded, sounds)
            begins = [self._begin(sound, language) for sound, language in zip(sounds, languages, strict=True)]
            said: list[list[int]] = [[] for _ in rows]
            undecided = list(range(len(rows)))
            temperature = sounds[0].temperature
            for heat in _TEMPERATURES if temperature == 0 else (temperature,):
                flags = [cancelled[index] for index in undecided]
                answers = self._generate(encoded[undecided], [begins[index] for index in undecided], heat, flags)
                unsure = []
                for index, (tokens, confidence) in zip(undecided, answers, strict=True):
                    silent = no_speech[index] > _NO_SPEECH and confidence < _UNSURE
                    said[index] = [] if silent else tokens
                    sure = confidence >= _UNSURE and repetition(self._text(tokens)) <= _REPETITIVE
                    if not silent and not sure and not cancelled[index].is_set():
                        unsure.append(index)
                undecided = unsure
                if not undecided:
                    break
            return [
                none if row.cancelled.is_set() else self._heard(row.job, tokens, language, encoded[index : index + 1])
                for index, (row, tokens, language, none) in enumerate(zip(rows, said, languages, nothing, strict=True))
            ]

    def _prompt_tokens(self, prompt: str | None) -> list[int]:
        """What is to be taken for said before, as far back as the model can look."""
        if not prompt or not prompt.strip():
            return []
        tokens = self._tokenizer(f" {prompt.strip()}", add_special_tokens=False)["input_ids"]
        room = self._model.config.max_target_positions // 2 - 1
        previous: int = self._tokenizer.convert_tokens_to_ids("<|startofprev|>")
        return [previous, *[token for token in tokens if token < self._end][-room:]]

    def _begin(self, sound: Sound, language: str) -> list[int]:
        spoken = [self._language_tokens[language]] if language in self._language_tokens else []
        return [*self._prompt(sound.prompt), self._start, *spoken, *self._transcribe]

    def _encode(self, sounds: Sequence[Sound], cancelled: Sequence[Cancelled]) -> Any:
        """Shape (rows, 1500, width), or None where nobody waits any more. One after the other: together they would take
        as much time, and more memory.
        """
        import torch

        encoder, encoded = self._model.get_encoder(), []
        for sound in sounds:
            if all(flag.is_set() for flag in cancelled):
                return None
            features = self._features(sound.samples, sampling_rate=SAMPLE_RATE, return_tensors="pt")["input_features"]
            encoded.append(encoder(features.to(self._device, self._model.dtype)).last_hidden_state)
        return torch.cat(encoded)

    def _languages(self, encoded: Any, sounds: Sequence[Sound]) -> tuple[list[str], list[float]]:
        """What each row is in, and how likely nobody speaks in it."""
        import torch

        start = torch.full((len(sounds), 1), self._start, device=self._device)
        first = self._model(encoder_outputs=(encoded,), decoder_input_ids=start, use_cache=False).logits[:, -1].float()
        codes, numbers = list(self._language_tokens), list(self._language_tokens.values())
        likeliest = [codes[index] for index in first[:, numbers].argmax(-1)] if codes else ["en"] * len(sounds)
        languages = [sound.language or found for sound, found in zip(sounds, likeliest, strict=True)]
        return languages, first.softmax(-1)[:, self._no_speech].tolist()

    def _generate(
        self, encoded: Any, begins: Sequence[Sequence[int]], temperature: float, cancelled: Sequence[Cancelled]
    ) -> list[tuple[list[int], float]]:
        """Of each row the tokens after its beginning, and the mean of their log probabilities."""
        import torch
        from transformers import GenerationMixin, LogitsProcessorList, WhisperTimeStampLogitsProcessor
        from transformers.modeling_outputs import BaseModelOutput

        length = len(begins[0])
        confidence = _Confidence(self._end)
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
        # Whisper's own generate() wraps this one with a loop over windows that cannot yield and starts over in each.
        sequences = GenerationMixin.generate(
            self._model,
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
            attention_mask=encoded.new_ones(encoded.shape[:2]),
            decoder_input_ids=torch.tensor(begins, device=self._device),
            logits_processor=LogitsProcessorList(
                [WhisperTimeStampLogitsProcessor(self._model.generation_config, begin_index=length), confidence]
            ),
            stopping_criteria=stop_when(cancelled),
            max_length=None,
            max_new_tokens=self._model.config.max_target_positions - length,
            num_beams=1,
            **sampling,
        )
        means = confidence.means(sequences)
        rows = [[token for token in row if token != self._end] for row in sequences[:, length:].tolist()]
        return list(zip(rows, means, strict=True))

    def _heard(self, sound: Sound, tokens: list[int], language: str, encoded: Any) -> Heard:
        length_s = len(sound.samples) / SAMPLE_RATE
        pieces, advance_s = split_at_timestamps(tokens, self._no_timestamps + 1, length_s)
        texts = [[token for token in piece if token < self._end] for _, _, piece in pieces]
        words = self._words(texts, language, encoded, length_s) if sound.words else [()] * len(pieces)
        segments = [
            Segment(start_s, end_s, text, language, of_words)
            for (start_s, end_s, _), piece, of_words in zip(pieces, texts, words, strict=True)
            if (text := self._tokenizer.decode(piece)).strip()
        ]
        return Heard(segments, max(1, round(advance_s * SAMPLE_RATE)))

    def _words(
        self, texts: Sequence[Sequence[int]], language: str, encoded: Any, length_s: float
    ) -> list[tuple[Word, ...]]:
        """Of each text its words: the decoder says where in the sound it looks for each token."""
        import torch

        spoken = [self._language_tokens[language]] if language in self._language_tokens else []
        begin = [self._start, *spoken, *self._transcribe, self._no_timestamps]
        tokens = [*begin, *(token for text in texts for token in text), self._end]
        implementation = self._model.config._attn_implementation
        self._model.set_attn_implementation("eager")  # the others do not show where they look
        try:
            looks = self._model(
                encoder_outputs=(encoded,),
                decoder_input_ids=torch.tensor([tokens], device=self._device),
                output_attentions=True,
                use_cache=False,
            ).cross_attentions
        finally:
            self._model.set_attn_implementation(implementation)
        frames = max(1, round(length_s / _TIMESTAMP_S))
        heads = torch.stack([looks[layer][0, head] for layer, head in self._heads])[..., :frames]
        starts_s = [frame * _TIMESTAMP_S for frame in align(heads.float().cpu().numpy()[:, len(begin) - 1 : -1])]
        words, at = [], 0
        for text in texts:
            found = []
            for word, indices in grouped(self._tokenizer, text, language):
                found.append(Word(starts_s[at + indices[0]], starts_s[at + indices[-1] + 1], word))
            words.append(tuple(found))
            at += len(text)
        return words

    def _text(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode([token for token in tokens if token < self._end])
        return text


load = Whisper


class _Confidence:
    """A logits processor that changes nothing, and remembers how likely each token was that was then picked. Kept for
    all steps, the scores would take more memory than the model.
    """

    def __init__(self, end: int) -> None:
        self._end = end
        self._last: Any = None
        self._sum: Any = 0.0
        self._count: Any = 0
        self._alive: Any = None

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        self._add(input_ids)
        self._last = scores.float().log_softmax(-1)
        return scores

    def means(self, sequences: Any) -> list[float]:
        self._add(sequences)
        means: list[float] = (self._sum / self._count).tolist()
        return means

    def _add(self, input_ids: Any) -> None:
        if self._last is None:
            self._alive = input_ids.new_ones(len(input_ids), dtype=bool)
            return
        picked = input_ids[:, -1]
        self._sum = self._sum + self._last.gather(-1, picked[:, None])[:, 0].where(self._alive, 0.0)
        self._count = self._count + self._alive.int()
        self._alive = self._alive & (picked != self._end)


def split_at_timestamps(
    tokens: Sequence[int], timestamps_from: int, window_s: float
) -> tuple[list[tuple[float, float, Sequence[int]]], float]:
    """What Whisper said about one window: (start, end, tokens) of each segment, and how far to move on, in seconds.

    tokens: text tokens, with timestamps (numbers from `timestamps_from` on) round each segment
    window_s: how much sound the window held

    Whisper closes a segment and opens the next with two timestamps in a row. What follows the last such pair was cut
    off by the window's end: it is left out here and heard again, whole, in the next window. One timestamp at the very
    end says that nothing follows.
    """

    def second(token: int) -> float:
        return min(round(max(token - timestamps_from, 0) * _TIMESTAMP_S, 2), window_s)

    is_time = [token >= timestamps_from for token in tokens]
    cuts = [index for index in range(1, len(tokens)) if is_time[index - 1] and is_time[index]]
    complete = is_time[-2:] == [False, True]
    if not cuts:
        last = next((token for token in reversed(tokens) if token > timestamps_from), None)
        end_s = window_s if last is None else second(last)
        return ([(0.0, end_s, tokens)] if tokens else []), window_s
    ends = [*cuts, len(tokens)] if complete else cuts
    starts = [0, *ends]
    segments = [
        (second(tokens[start]), second(tokens[end - 1]), tokens[start:end])
        for start, end in zip(starts, ends, strict=False)
    ]
    advance_s = segments[-1][1]
    return segments, window_s if complete or advance_s == 0 else advance_s


def repetition(text: str) -> float:
    """How many times smaller the text packs: a transcript caught in a loop goes far above 2."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))
