"""Speech synthesis with chatterbox: English, multilingual, and the smaller and faster turbo.

Piece by piece (sentences.py), each as a turn of its own on the model's thread: the class keeps what it works with on
itself, so that one piece is made at a time, and several requests take turns between pieces.

What chatterbox-tts 0.1.7 does wrong, and is put right here:

- turbo's loudness of a reference clip is float64 under numpy 2, which its float32 weights refuse.
- multilingual adds hooks to the model at every call and never takes them away.
- multilingual fails on texts of five tokens or fewer, its own two at both ends included.
- multilingual hands the vocoder tokens that it has no sound for; a piece may also have no token left at all.
- multilingual asks the hub for a file (Cangjie5_TC.json) even when it is loaded from a folder.
- default fails with a cfg_weight of 0.
- Each draws a progress bar for each piece, and prints.
- Without pkg_resources, which setuptools 81 has no more, the watermark is missing without a word.
- A clip is opened by way of audioread, which starts programs to find out whether they are there.
- The first resampling compiles for many seconds.
"""

import asyncio
import gc
import importlib
import importlib.util
import logging
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import ExitStack, aclosing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from llmux.config import Model
from llmux.errors import InvalidAudio, InvalidRequest, LoadFailed, RuntimeMissing
from providers.audio import decode
from providers.construction import TURN
from providers.language import detected
from providers.reading import in_words, plain
from providers.runtime import Clip, Samples
from providers.sentences import pieces
from providers.splice import PAUSE_S, silence, spliceable, stretched
from providers.voices import LONGEST_S
from providers.worker import Cancelled, Worker

SAMPLE_RATE = 24_000

_CLASSES: Mapping[str, tuple[str, str]] = {
    "default": ("chatterbox.tts", "ChatterboxTTS"),
    "multilingual": ("chatterbox.mtl_tts", "ChatterboxMultilingualTTS"),
    "turbo": ("chatterbox.tts_turbo", "ChatterboxTurboTTS"),
}

NEEDED: Mapping[str, tuple[str, str]] = {
    "he": ("dicta_onnx", "dicta-onnx"),
    "ja": ("pykakasi", "pykakasi, whose licence is GPL-3.0"),
    "ru": ("russian_text_stresser", "russian-text-stresser"),
    "zh": ("spacy_pkuseg", "spacy-pkuseg"),
}
"""Languages whose text another package must prepare: its module, and how it is called. Without it they are off."""

_CANGJIE = "Cangjie5_TC.json"
"""Chinese needs this file of the checkpoint's repository too."""

_SOUNDS = 6561
"""Speech tokens below this have a sound; those above steer."""

_FEWEST_TOKENS = 4
"""Of text, so that with the two that are put round them there are more than five."""

_RANGES: Mapping[str, tuple[float, float]] = {
    "exaggeration": (0.0, 2.0),
    "cfg_weight": (0.0, 1.0),
    "temperature": (0.05, 5.0),
}
"""What may be asked for. Turbo knows the temperature alone."""

_UNGUIDED = 1e-6
"""A cfg_weight that guides by nothing."""


_SPIES = "chatterbox.models.t3.inference.alignment_stream_analyzer"
"""The module whose hooks are never taken away."""


class _Stopped(Exception):
    """Nobody waits for this piece any more."""


class _Wordless(Exception):
    """The model found nothing to say."""


@dataclass(frozen=True, slots=True)
class _Manner:
    """How one request is spoken. numbers: exaggeration, cfg_weight and temperature, those that were given"""

    language: str
    numbers: Mapping[str, float]
    seed: int | None


class ChatterboxSpeech:
    """A SpeechRuntime. `options` may hold language, exaggeration, cfg_weight, temperature and seed.

    languages: ISO 639-1 codes that it speaks; those that are switched off are not among them
    """

    sample_rate = SAMPLE_RATE
    voices: Sequence[str] = ()
    clones = True

    def __init__(self, worker: Worker, tts: Any, model: Model, languages: Sequence[str]) -> None:
        self.languages = languages
        self._worker = worker
        self._tts = tts
        self._variant = model.variant or "default"
        self._default_language = model.default_language or "en"
        self._conditionals: dict[str, Any] = {} if tts.conds is None else {"default": tts.conds}

    async def synthesize(
        self, text: str, *, voice: str | Clip, speed: float, options: Mapping[str, Any]
    ) -> AsyncGenerator[Samples, None]:
        manner = await asyncio.to_thread(self._manner, text, voice, options)  # what tells languages is slow at first
        said = await asyncio.to_thread(_said, text, manner.language)
        if not said:
            yield silence(SAMPLE_RATE)
        jobs = (partial(self._speak, piece, voice, speed, manner, number) for number, piece in enumerate(said))
        async with aclosing(self._worker.turns(jobs)) as takes:
            async for take in takes:
                yield take

    def _manner(self, text: str, voice: str | Clip, options: Mapping[str, Any]) -> _Manner:
        numbers = {name: options[name] for name in _RANGES if name in options}
        known = ("temperature",) if self._variant == "turbo" else tuple(_RANGES)
        for name, value in numbers.items():
            if name not in known:
                raise InvalidRequest(f"{name}: this model takes {' and '.join(known)} only", param=name)
            low, high = _RANGES[name]
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise InvalidRequest(f"{name} must be a number from {low:g} to {high:g}", param=name)
        seed = options.get("seed")
        if seed is not None and not (isinstance(seed, int) and 0 <= seed < 2**63):
            raise InvalidRequest("seed must be a whole number from 0 on", param="seed")
        if numbers.get("cfg_weight") == 0:
            numbers["cfg_weight"] = _UNGUIDED
        return _Manner(self._language(text, voice, options.get("language")), numbers, seed)

    def _language(self, text: str, voice: str | Clip, wanted: object) -> str:
        """As asked for; else the voice's own; else the text's. Raises InvalidRequest, naming what there is."""
        if wanted is not None:
            code = str(wanted).lower().replace("_", "-").partition("-")[0]
            if code in self.languages:
                return code
            why = f"; {code} is switched off: it needs {_lacks(code)}" if self._multilingual and code in NEEDED else ""
            raise InvalidRequest(
                f"the language {wanted!r} is not available; there are {', '.join(self.languages)}{why}",
                param="language",
            )
        if isinstance(voice, Clip) and voice.language in self.languages:
            return str(voice.language)
        return detected(text, self.languages) or self._default_language

    @property
    def _multilingual(self) -> bool:
        return self._variant == "multilingual"

    def _speak(
        self, piece: str, voice: str | Clip, speed: float, manner: _Manner, number: int, cancelled: Cancelled
    ) -> Samples:
        tts = self._tts
        tts.conds = replace(self._conditionals_of(voice))  # generate() changes what it finds there
        language = {"language_id": manner.language} if self._multilingual else {}
        with _stopped_by(tts, cancelled), _spies_removed(tts.t3), _seeded(tts.device, manner.seed, number):
            try:
                sound = tts.generate(piece, **language, **manner.numbers)
            except (_Stopped, _Wordless):
                return silence(SAMPLE_RATE)
        samples = stretched(np.asarray(sound[0].cpu(), dtype=np.float32), SAMPLE_RATE, speed)
        return spliceable(samples, SAMPLE_RATE, pause_s=PAUSE_S / speed if number else 0.0)

    def _conditionals_of(self, voice: str | Clip) -> Any:
        """What the model knows of a voice, computed once."""
        name = voice.name if isinstance(voice, Clip) else voice
        if name not in self._conditionals:
            if not isinstance(voice, Clip):
                raise InvalidRequest("this model has no voice of its own; name one of the voices folder", param="voice")
            self._tts.prepare_conditionals(voice.path)
            self._conditionals[name] = self._tts.conds
        return self._conditionals[name]

    async def close(self) -> None:
        self._tts = None
        self._conditionals.clear()
        await self._worker.run(_free)
        await self._worker.close()


async def load(model: Model, folder: Path) -> ChatterboxSpeech:
    """The variant in `folder`, on the GPU where there is one. Raises RuntimeMissing without its packages."""
    worker = Worker(folder.name)
    try:
        tts, languages = await worker.run(lambda _: _load(model, folder))
        if model.default_language is not None and model.default_language not in languages:
            raise LoadFailed(
                f"default_language {model.default_language!r} is not one that this model speaks; "
                f"it speaks {', '.join(languages)}"
            )
    except BaseException:
        await worker.close()
        raise
    return ChatterboxSpeech(worker, tts, model, languages)


def _said(text: str, language: str) -> list[str]:
    return pieces(in_words(plain(text, language), language))


def voices(clips: Mapping[str, Clip]) -> Sequence[str]:
    """All that it can take over: it has none of its own beside "default"."""
    return tuple(clips)


def _load(model: Model, folder: Path) -> tuple[Any, Sequence[str]]:
    variant = model.variant or "default"
    module_name, class_name = _CLASSES[variant]
    try:
        module: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise RuntimeMissing(f"chatterbox cannot be used: {error.name or 'a package'} is not installed") from None
    if importlib.import_module("perth").PerthImplicitWatermarker is None:
        raise RuntimeMissing("chatterbox has no watermark without pkg_resources: install setuptools below 81")
    logging.getLogger("chatterbox").setLevel(logging.ERROR)  # it reports on every token
    for name in ("t3.t3", "s3gen.flow_matching"):
        chatty: Any = importlib.import_module(f"chatterbox.models.{name}")
        chatty.tqdm, chatty.print = (lambda steps, **_: steps), (lambda *_: None)
    tokenizer: Any = importlib.import_module("chatterbox.models.tokenizers.tokenizer")
    tokenizer.hf_hub_download = _beside
    import torch

    with TURN:
        tts = getattr(module, class_name).from_local(folder, "cuda" if torch.cuda.is_available() else "cpu")
    module.librosa = SimpleNamespace(load=_recording, resample=importlib.import_module("librosa").resample)
    if variant == "turbo":
        tts.norm_loudness = partial(_in_single_precision, tts.norm_loudness)
    tts.t3.inference = partial(_audible, tts.t3.inference)
    tts.t3.inference_turbo = partial(_audible, tts.t3.inference_turbo)
    if variant == "multilingual":
        tts.tokenizer.text_to_tokens = partial(_long_enough, tts.tokenizer.text_to_tokens)
    tts.watermarker.apply_watermark(np.zeros(SAMPLE_RATE, dtype=np.float32), sample_rate=SAMPLE_RATE)  # warm
    return tts, _languages(module, folder) if variant == "multilingual" else ("en",)


def _languages(module: Any, folder: Path) -> Sequence[str]:
    def is_on(code: str) -> bool:
        return code not in NEEDED or (
            importlib.util.find_spec(NEEDED[code][0]) is not None and (code != "zh" or (folder / _CANGJIE).is_file())
        )

    return tuple(code for code in module.SUPPORTED_LANGUAGES if is_on(code))


def _lacks(code: str) -> str:
    return NEEDED[code][1] + (f", and {_CANGJIE} beside the weights" if code == "zh" else "")


def _beside(repo_id: str, filename: str, cache_dir: Path) -> Path:
    """In the place of the hub: the file beside the weights, which need not be there."""
    return cache_dir / filename


def _recording(path: str, sr: int) -> tuple[Samples, int]:
    try:
        return decode(Path(path).read_bytes(), sr, max_s=LONGEST_S), sr
    except (InvalidAudio, OSError):
        raise InvalidRequest("the recording of this voice is not what it was at the start", param="voice") from None


def _in_single_precision(normalized: Any, sound: Any, *arguments: Any, **options: Any) -> Any:
    return np.asarray(normalized(sound, *arguments, **options), dtype=np.float32)


def _audible(inference: Any, *arguments: Any, **options: Any) -> Any:
    """Speech tokens that have a sound, shape (1, tokens)."""
    tokens = inference(*arguments, **options)
    tokens = tokens[:1, tokens[0] < _SOUNDS]
    if not tokens.shape[1]:
        raise _Wordless
    return tokens


def _long_enough(text_to_tokens: Any, *arguments: Any, **options: Any) -> Any:
    """Text tokens, the last of which is repeated where there are too few: it is a full stop."""
    import torch

    tokens = text_to_tokens(*arguments, **options)
    lacking = max(0, _FEWEST_TOKENS - tokens.shape[1])
    return torch.cat([tokens, tokens[:, -1:].expand(-1, lacking)], dim=1)


@contextmanager
def _stopped_by(tts: Any, cancelled: Cancelled) -> Iterator[None]:
    """Before each speech token, and each step of making sound of them, looks whether somebody still waits."""

    def look(*_: Any) -> None:
        if cancelled.is_set():
            raise _Stopped

    with ExitStack() as hooks:
        for module in (tts.t3.speech_head, tts.s3gen.flow.decoder.estimator):
            hooks.callback(module.register_forward_pre_hook(look).remove)
        look()
        yield


@contextmanager
def _spies_removed(model: Any) -> Iterator[None]:
    """Takes away the hooks of chatterbox's own that were added meanwhile. Those of transformers must stay: it believes
    that they are there.
    """
    try:
        yield
    finally:
        for module in model.modules():
            for number, hook in list(module._forward_hooks.items()):
                if getattr(hook, "__module__", "") == _SPIES:
                    del module._forward_hooks[number]


@contextmanager
def _seeded(device: str, seed: int | None, number: int) -> Iterator[None]:
    """Random numbers of the piece's own. torch has one generator for all threads: on a CPU, a chat model that samples
    at the same time takes from the same.
    """
    import torch

    devices = [torch.cuda.current_device()] if device == "cuda" else []
    with nullcontext() if seed is None else torch.random.fork_rng(devices):
        if seed is not None:
            torch.manual_seed((seed + number) % 2**63)
        yield


def _free(_: Cancelled) -> None:
    import torch

    importlib.import_module("chatterbox.models.s3gen.s3gen").get_resampler.cache_clear()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
