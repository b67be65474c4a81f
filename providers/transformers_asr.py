"""Speech recognition through transformers: Whisper, and Cohere's Transcribe.

Both take a recording window by window, so that the first segments leave early, memory does not grow with the
recording, and a cancelled request ends at the next decoding step.
"""

import gc
import json
import zlib
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from llmux.config import Model
from llmux.errors import InvalidRequest, LoadFailed
from providers.construction import TURN
from providers.runtime import Samples, Segment
from providers.worker import Cancelled, Worker

SAMPLE_RATE = 16_000


class _Recognizer(Protocol):
    """A loaded model, used from its worker's thread alone."""

    @property
    def languages(self) -> Sequence[str]: ...

    def transcribe(
        self, samples: Samples, language: str | None, prompt: str | None, temperature: float, cancelled: Cancelled
    ) -> Iterator[Segment]: ...


class TransformersTranscription:
    """A TranscriptionRuntime over one of the model families that this module knows."""

    sample_rate = SAMPLE_RATE

    def __init__(self, worker: Worker, recognizer: _Recognizer) -> None:
        self.languages = recognizer.languages
        self._worker = worker
        self._recognizer: _Recognizer | None = recognizer

    def transcribe(
        self, samples: Samples, *, language: str | None, prompt: str | None, temperature: float
    ) -> AsyncGenerator[Segment, None]:
        recognizer = self._recognizer
        assert recognizer is not None, "closed"
        return self._worker.stream(
            lambda cancelled: recognizer.transcribe(samples, language, prompt, temperature, cancelled)
        )

    async def close(self) -> None:
        self._recognizer = None
        await self._worker.run(_free)
        await self._worker.close()


async def load(model: Model, folder: Path) -> TransformersTranscription:
    """The model in `folder`, on the GPU where there is one. Raises LoadFailed for a family that is not known."""
    family = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if family not in _FAMILIES:
        raise LoadFailed(f"speech recognition needs a model of type {' or '.join(_FAMILIES)}, and this is {family!r}")
    worker = Worker(folder.name)
    try:
        recognizer = await worker.run(lambda _: _build(family, folder, model.default_language))
    except BaseException:
        await worker.close()
        raise
    return TransformersTranscription(worker, recognizer)


def _build(family: str, folder: Path, default_language: str | None) -> _Recognizer:
    from transformers.utils import logging

    logging.disable_progress_bar()  # a server's log is no terminal
    recognizer = _FAMILIES[family](folder, default_language)
    if default_language is not None and default_language not in recognizer.languages:
        raise LoadFailed(
            f"default_language {default_language!r} is not one that this model knows; "
            f"it knows {', '.join(recognizer.languages)}"
        )
    return recognizer


def _free(_: Cancelled) -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _stop_when(cancelled: Cancelled) -> Any:
    """A stopping criterion that is asked after every token."""
    import torch
    from transformers import StoppingCriteriaList

    def stop(input_ids: Any, scores: Any, **_: Any) -> Any:
        return torch.full((input_ids.shape[0],), cancelled.is_set(), device=input_ids.device, dtype=torch.bool)

    return StoppingCriteriaList([stop])


_WINDOW_S = 30.0
"""How much Whisper hears at one time."""

_SHORTEST_S = 0.1
"""A last window below this holds no word, and Whisper would make one up."""

_TIMESTAMP_S = 0.02
"""What one step between Whisper's timestamp tokens means."""

# Whisper's own thresholds, from the paper's section 4.5.
_TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_REPETITIVE = 2.4
_UNSURE = -1.0
_NO_SPEECH = 0.6


class _Whisper:
    def __init__(self, folder: Path, default_language: str | None) -> None:
        import torch
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        self._device = _device()
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
        self._timestamps_from: int = config.no_timestamps_token_id + 1
        self._no_speech: int = config.no_timestamps_token_id - 1
        self._transcribe: list[int] = []
        self._language_tokens: dict[str, int] = {}
        if config.is_multilingual:
            self._transcribe = [config.task_to_id["transcribe"]]
            self._language_tokens = {token.strip("<|>"): number for token, number in config.lang_to_id.items()}
        self.languages = tuple(sorted(self._language_tokens)) or ("en",)
        self._default_language = default_language

    def transcribe(
        self, samples: Samples, language: str | None, prompt: str | None, temperature: float, cancelled: Cancelled
    ) -> Iterator[Segment]:
        language = language or self._default_language
        temperatures = _TEMPERATURES if temperature == 0 else (temperature,)
        before = self._prompt(prompt)
        at = 0
        while len(samples) - at >= _SHORTEST_S * SAMPLE_RATE:
            window = samples[at : at + int(_WINDOW_S * SAMPLE_RATE)]
            heard, tokens = self._hear(window, language, before, temperatures, cancelled)
            if cancelled.is_set():
                return
            pieces, advance_s = split_at_timestamps(tokens, self._timestamps_from, len(window) / SAMPLE_RATE)
            start_s = at / SAMPLE_RATE
            for from_s, to_s, piece in pieces:
                text = self._tokenizer.decode([token for token in piece if token < self._end])
                if text.strip():
                    language = heard  # what the first words were in holds for the rest
                    yield Segment(start_s + from_s, start_s + to_s, text, heard)
            at += max(1, round(advance_s * SAMPLE_RATE))

    def _prompt(self, prompt: str | None) -> list[int]:
        """What is to be taken for said before, as far back as the model can look."""
        if not prompt or not prompt.strip():
            return []
        tokens = self._tokenizer(f" {prompt.strip()}", add_special_tokens=False)["input_ids"]
        room = self._model.config.max_target_positions // 2 - 1
        previous: int = self._tokenizer.convert_tokens_to_ids("<|startofprev|>")
        return [previous, *[token for token in tokens if token < self._end][-room:]]

    def _hear(
        self,
        window: Samples,
        language: str | None,
        before: list[int],
        temperatures: Sequence[float],
        cancelled: Cancelled,
    ) -> tuple[str, list[int]]:
        """The language of a window and its tokens, timestamps among them; none where nobody speaks."""
        import torch

        with torch.inference_mode():
            features = self._features(window, sampling_rate=SAMPLE_RATE, return_tensors="pt")["input_features"]
            encoded = self._model.get_encoder()(features.to(self._device, self._model.dtype))
            if cancelled.is_set():
                return language or "", []
            start = torch.tensor([[self._start]], device=self._device)
            first = self._model(encoder_outputs=encoded, decoder_input_ids=start, use_cache=False).logits[0, -1].float()
            if language is None:
                known = self._language_tokens
                language = max(known, key=lambda code: float(first[known[code]]), default=self.languages[0])
            no_speech = float(first.softmax(-1)[self._no_speech])
            begin = [*before, self._start, *self._transcribe]
            if language in self._language_tokens:
                begin.insert(len(before) + 1, self._language_tokens[language])
            tokens: list[int] = []
            for temperature in temperatures:
                tokens, confidence = self._generate(encoded, begin, temperature, cancelled)
                if cancelled.is_set() or (no_speech > _NO_SPEECH and confidence < _UNSURE):
                    return language, []
                words = self._tokenizer.decode([token for token in tokens if token < self._end])
                if confidence >= _UNSURE and repetition(words) <= _REPETITIVE:
                    break
            return language, tokens

    def _generate(
        self, encoded: Any, begin: list[int], temperature: float, cancelled: Cancelled
    ) -> tuple[list[int], float]:
        """Tokens after `begin` and the mean of their log probabilities."""
        import torch
        from transformers import GenerationMixin, LogitsProcessorList, WhisperTimeStampLogitsProcessor

        sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
        # Whisper's own generate() wraps this one with a loop over windows that cannot yield and starts over in each.
        answer = GenerationMixin.generate(
            self._model,
            encoder_outputs=encoded,
            decoder_input_ids=torch.tensor([begin], device=self._device),
            logits_processor=LogitsProcessorList(
                [WhisperTimeStampLogitsProcessor(self._model.generation_config, begin_index=len(begin))]
            ),
            stopping_criteria=_stop_when(cancelled),
            max_length=None,
            max_new_tokens=self._model.config.max_target_positions - len(begin),
            num_beams=1,
            return_dict_in_generate=True,
            output_scores=True,
            **sampling,
        )
        tokens = answer.sequences[0, len(begin) :]
        scores = torch.stack([step[0] for step in answer.scores]).float().log_softmax(-1)
        confidence = float(scores.gather(-1, tokens[:, None]).mean())
        return [token for token in tokens.tolist() if token != self._end], confidence


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


class _Cohere:
    def __init__(self, folder: Path, default_language: str | None) -> None:
        import torch
        from transformers import CohereAsrForConditionalGeneration, CohereAsrProcessor
        from transformers.models.cohere_asr.processing_cohere_asr import LANGUAGES

        self._device = _device()
        dtype = torch.bfloat16 if self._device == "cuda" else torch.float32
        with TURN:
            self._model = CohereAsrForConditionalGeneration.from_pretrained(folder, dtype=dtype, local_files_only=True)
        self._model.to(self._device).eval()
        self._processor = CohereAsrProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        self.languages = tuple(sorted(LANGUAGES))
        self._default_language = default_language

    def transcribe(
        self, samples: Samples, language: str | None, prompt: str | None, temperature: float, cancelled: Cancelled
    ) -> Iterator[Segment]:
        """One segment a window: the model has no timestamps. It takes no prompt either."""
        language = language or self._default_language
        if language is None:
            raise InvalidRequest(
                f"this model needs to be told the language: one of {', '.join(self.languages)}", param="language"
            )
        extractor = self._processor.feature_extractor
        # One second more than the processor takes whole makes it cut where it is quiet; the rest is heard next.
        longest = int((extractor.max_audio_clip_s + 1) * SAMPLE_RATE)
        at, separator = 0, ""
        while len(samples) - at > extractor.n_fft:
            length, text = self._hear(samples[at : at + longest], language, temperature, cancelled)
            if cancelled.is_set():
                return
            end = at + length if len(samples) - at - length > extractor.hop_length else len(samples)
            if text.strip():
                yield Segment(at / SAMPLE_RATE, end / SAMPLE_RATE, separator + text.strip(), language)
                separator = "" if language in _UNSPACED else " "
            at = end

    def _hear(self, samples: Samples, language: str, temperature: float, cancelled: Cancelled) -> tuple[int, str]:
        """How many samples the first window took, and what was said in it."""
        import torch

        with torch.inference_mode():
            inputs = self._processor(samples, sampling_rate=SAMPLE_RATE, language=language, punctuation=True)
            mask = inputs["attention_mask"][:1]
            begin = inputs["decoder_input_ids"][:1].to(self._device)
            sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
            tokens = self._model.generate(
                input_features=inputs["input_features"][:1].to(self._device, self._model.dtype),
                attention_mask=mask.to(self._device),
                decoder_input_ids=begin,
                max_new_tokens=self._model.config.max_position_embeddings - begin.shape[1],
                stopping_criteria=_stop_when(cancelled),
                **sampling,
            )
            [text] = self._processor.decode(
                tokens[:, begin.shape[1] :],
                skip_special_tokens=True,
                audio_chunk_index=[(0, None)],
                language=language,
            )
        return int(mask.sum()) * self._processor.feature_extractor.hop_length, text


_UNSPACED = frozenset({"ja", "zh"})
"""Languages of Cohere's that put no space between sentences."""

_FAMILIES: dict[str, Callable[[Path, str | None], _Recognizer]] = {"whisper": _Whisper, "cohere_asr": _Cohere}
