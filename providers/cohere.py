"""Cohere's Transcribe. It is told the language, and tells no times: a step is one segment."""

from collections.abc import Hashable, Sequence
from pathlib import Path

from providers.batch import Row
from providers.construction import TURN
from providers.recognizer import SAMPLE_RATE, Heard, Sound, device, stop_when
from providers.runtime import Segment

_UNSPACED = frozenset({"ja", "zh"})
"""Its languages that put no space between sentences."""


class Cohere:
    """A Recognizer. It takes no prompt."""

    detects_language = False
    tells_words = False

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import CohereAsrForConditionalGeneration, CohereAsrProcessor
        from transformers.models.cohere_asr.processing_cohere_asr import LANGUAGES

        self._device = device()
        dtype = torch.bfloat16 if self._device == "cuda" else torch.float32
        with TURN:
            self._model = CohereAsrForConditionalGeneration.from_pretrained(folder, dtype=dtype, local_files_only=True)
        self._model.to(self._device).eval()
        self._processor = CohereAsrProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        self.languages = tuple(sorted(LANGUAGES))

    def alike(self, sound: Sound) -> Hashable:
        return sound.language, sound.temperature

    def hear(self, rows: Sequence[Row[Sound]]) -> Sequence[Heard]:
        import torch

        sounds = [row.job for row in rows]
        language, temperature = sounds[0].language, sounds[0].temperature
        assert language is not None
        with torch.inference_mode():
            inputs = self._processor(
                [sound.samples for sound in sounds], sampling_rate=SAMPLE_RATE, language=language, punctuation=True
            )
            begin = inputs["decoder_input_ids"].to(self._device)
            sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
            tokens = self._model.generate(
                input_features=inputs["input_features"].to(self._device, self._model.dtype),
                attention_mask=inputs["attention_mask"].to(self._device),
                decoder_input_ids=begin,
                max_new_tokens=self._model.config.max_position_embeddings - begin.shape[1],
                stopping_criteria=stop_when([row.cancelled for row in rows]),
                **sampling,
            )
            texts = self._processor.tokenizer.batch_decode(tokens[:, begin.shape[1] :], skip_special_tokens=True)
        return [self._heard(sound, text.strip(), language) for sound, text in zip(sounds, texts, strict=True)]

    def _heard(self, sound: Sound, text: str, language: str) -> Heard:
        taken = len(sound.samples)
        text = text if language in _UNSPACED else f" {text}"
        segment = Segment(0.0, taken / SAMPLE_RATE, text, language)
        return Heard([segment] if text.strip() else [], taken)


load = Cohere
