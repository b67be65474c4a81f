"""The real classes, on random weights of a small size."""

import asyncio
import importlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from bench import random_chatterbox
from bench.random_chatterbox import Variant
from llmux.config import Model
from llmux.errors import InvalidRequest, LoadFailed, RuntimeMissing
from providers import chatterbox
from providers.chatterbox import ChatterboxSpeech, load
from providers.runtime import Clip, Samples, SpeechRuntime

SENTENCE = "The train to London leaves at noon."
VARIANTS: tuple[Variant, ...] = ("default", "multilingual", "turbo")


def entry(variant: Variant, **settings: Any) -> Model:
    given = {"task": "tts", "runtime": "chatterbox", "weights": "x", "variant": variant, "estimate": "1 GB", **settings}
    return Model.model_validate(given)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Variant, Path]]:
    folder = tmp_path_factory.mktemp("chatterbox")
    with random_chatterbox.small():
        for variant in VARIANTS:
            random_chatterbox.write(folder / variant, variant)
        yield {variant: folder / variant for variant in VARIANTS}


@pytest.fixture(scope="module")
def loaded(folders: dict[Variant, Path]) -> Iterator[dict[Variant, ChatterboxSpeech]]:
    runtimes = {variant: asyncio.run(load(entry(variant), folders[variant])) for variant in VARIANTS}
    yield runtimes
    for runtime in runtimes.values():
        asyncio.run(runtime.close())


@pytest.fixture(params=VARIANTS)
def speech(request: pytest.FixtureRequest, loaded: dict[Variant, ChatterboxSpeech]) -> ChatterboxSpeech:
    return loaded[request.param]


@pytest.fixture
def multilingual(loaded: dict[Variant, ChatterboxSpeech]) -> ChatterboxSpeech:
    return loaded["multilingual"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    path = tmp_path_factory.mktemp("voices") / "anna.de.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(1).normal(size=7 * 24_000), 24_000)
    return Clip("anna", str(path), "de")


async def takes(
    speech: ChatterboxSpeech, text: str, *, voice: str | Clip = "default", speed: float = 1.0, **options: Any
) -> list[Samples]:
    return [take async for take in speech.synthesize(text, voice=voice, speed=speed, options=options)]


def spies(speech: ChatterboxSpeech) -> int:
    hooks = [hook for module in speech._tts.t3.modules() for hook in module._forward_hooks.values()]
    return sum("AlignmentStreamAnalyzer" in hook.__qualname__ for hook in hooks if hasattr(hook, "__qualname__"))


# What each of the three does


async def test_a_sentence_is_heard(speech: ChatterboxSpeech) -> None:
    [take] = await takes(speech, SENTENCE)

    assert isinstance(speech, SpeechRuntime)
    assert take.dtype == np.float32
    assert 0.5 < len(take) / speech.sample_rate < 2
    assert 0 < np.abs(take).max() <= 1


async def test_a_long_text_comes_piece_by_piece(speech: ChatterboxSpeech) -> None:
    assert len(await takes(speech, f"{SENTENCE} {SENTENCE * 2}")) == 2


async def test_the_watermark_is_kept(speech: ChatterboxSpeech) -> None:
    marked: list[int] = []
    watermarker = speech._tts.watermarker
    apply = watermarker.apply_watermark

    def counted(sound: Any, **how: Any) -> Any:
        marked.append(how["sample_rate"])
        return apply(sound, **how)

    watermarker.apply_watermark = counted
    try:
        await takes(speech, SENTENCE)
    finally:
        watermarker.apply_watermark = apply

    assert type(watermarker).__name__ == "PerthImplicitWatermarker"
    assert marked == [24_000]


async def test_equal_seeds_sound_equal_and_others_do_not(speech: ChatterboxSpeech) -> None:
    [first], [again], [other] = [await takes(speech, SENTENCE, seed=seed) for seed in (1, 1, 2)]

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


async def test_a_seed_leaves_the_random_numbers_of_others_alone(speech: ChatterboxSpeech) -> None:
    state = torch.get_rng_state()
    await takes(speech, SENTENCE, seed=1)

    assert torch.equal(torch.get_rng_state(), state)


async def test_a_clip_s_voice_is_computed_once_and_differs(
    speech: ChatterboxSpeech, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[str] = []
    prepare = speech._tts.prepare_conditionals

    def counted(path: str) -> None:
        prepared.append(path)
        prepare(path)

    monkeypatch.setattr(speech._tts, "prepare_conditionals", counted)

    taken_over = [await takes(speech, SENTENCE, voice=clip, seed=1, language="en") for _ in range(2)]
    own = await takes(speech, SENTENCE, seed=1)

    assert prepared == [clip.path]
    assert np.array_equal(taken_over[0][0], taken_over[1][0])
    assert not np.array_equal(taken_over[0][0], own[0])


async def test_twice_as_fast_is_half_as_long(speech: ChatterboxSpeech) -> None:
    [normal], [fast] = [await takes(speech, SENTENCE, speed=speed, seed=3) for speed in (1.0, 2.0)]

    assert len(fast) == pytest.approx(len(normal) / 2, rel=0.05)


@pytest.mark.parametrize("text", ["😀", "...", "\x00", "***"])
async def test_nothing_to_say_is_a_short_silence(multilingual: ChatterboxSpeech, text: str) -> None:
    [take] = await takes(multilingual, text)

    assert not take.any()
    assert len(take) == 4_800


async def test_requests_take_turns_piece_by_piece(speech: ChatterboxSpeech) -> None:
    order: list[str] = []

    async def listen(name: str) -> None:
        async for _ in speech.synthesize(
            f"{SENTENCE} {SENTENCE} {SENTENCE * 7}", voice="default", speed=1.0, options={}
        ):
            order.append(name)  # noqa: PERF401 - one list for both

    await asyncio.gather(listen("a"), listen("b"))

    assert order[:4] in (["a", "b", "a", "b"], ["b", "a", "b", "a"])


async def test_hanging_up_stops_within_a_token(speech: ChatterboxSpeech) -> None:
    begun, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    looked: list[None] = []

    def look(*_: Any) -> None:
        looked.append(None)
        if len(looked) == 2:
            loop.call_soon_threadsafe(begun.set)
            assert go_on.wait(timeout=60)

    hook = speech._tts.t3.speech_head.register_forward_hook(look)
    sound = speech.synthesize(SENTENCE, voice="default", speed=1.0, options={})
    listening = asyncio.ensure_future(anext(sound))
    try:
        await begun.wait()
        listening.cancel()
        loop.call_soon(loop.call_soon, go_on.set)  # after the flag, which the cancelled task sets first
        with pytest.raises(asyncio.CancelledError):
            await listening
    finally:
        hook.remove()

    assert len(looked) == 2
    assert len(await takes(speech, SENTENCE)) == 1


# Options


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"temperature": 0}, "temperature"),
        ({"temperature": "warm"}, "temperature"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"language": "xx"}, "language"),
        ({"language": ["de"]}, "language"),
    ],
)
async def test_an_option_that_is_wrong_is_refused(speech: ChatterboxSpeech, options: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await takes(speech, SENTENCE, **options)

    assert refused.value.param == param


@pytest.mark.parametrize("options", [{"exaggeration": 2.1}, {"cfg_weight": -0.1}, {"cfg_weight": True}])
async def test_what_is_out_of_range_is_refused(multilingual: ChatterboxSpeech, options: Any) -> None:
    with pytest.raises(InvalidRequest, match="must be a number from 0 to"):
        await takes(multilingual, SENTENCE, **options)


@pytest.mark.parametrize("name", ["exaggeration", "cfg_weight"])
async def test_turbo_takes_the_temperature_alone(loaded: dict[Variant, ChatterboxSpeech], name: str) -> None:
    with pytest.raises(InvalidRequest, match="takes temperature only"):
        await anext(loaded["turbo"].synthesize(SENTENCE, voice="default", speed=1.0, options={name: 0.5}))


async def test_exaggeration_of_one_request_does_not_reach_the_next(multilingual: ChatterboxSpeech) -> None:
    heard = []
    for exaggeration in (0.5, 1.5, 0.5):
        await takes(multilingual, SENTENCE, exaggeration=exaggeration)
        heard.append(float(multilingual._tts.conds.t3.emotion_adv))

    assert heard == [0.5, 1.5, 0.5]


@pytest.mark.parametrize("now", ["gone.wav", __file__], ids=["gone", "no recording"])
async def test_a_clip_that_is_not_what_it_was_is_refused(speech: ChatterboxSpeech, now: str) -> None:
    with pytest.raises(InvalidRequest, match="of this voice") as refused:
        await takes(speech, SENTENCE, voice=Clip("bert", now))

    assert refused.value.param == "voice"


async def test_a_model_without_a_voice_asks_for_a_clip(folders: dict[Variant, Path], tmp_path: Path) -> None:
    for path in folders["turbo"].iterdir():
        if path.name != "conds.pt":
            (tmp_path / path.name).symlink_to(path)
    runtime = await load(entry("turbo"), tmp_path)
    try:
        with pytest.raises(InvalidRequest, match="voices folder"):
            await takes(runtime, SENTENCE)
    finally:
        await runtime.close()


# Languages


def languages_asked(speech: ChatterboxSpeech, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []
    generate = speech._tts.generate

    def noted(text: str, **how: Any) -> Any:
        asked.append(how["language_id"])
        return generate(text, **how)

    monkeypatch.setattr(speech._tts, "generate", noted)
    return asked


async def test_the_language_is_asked_for_or_the_voice_s_or_the_text_s(
    multilingual: ChatterboxSpeech, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = languages_asked(multilingual, monkeypatch)
    await takes(multilingual, "Bonjour tout le monde, comment allez-vous ?", voice=clip, language="it-IT")
    await takes(multilingual, "Bonjour tout le monde, comment allez-vous ?", voice=clip)
    await takes(multilingual, "Bonjour tout le monde, comment allez-vous ?")
    await takes(multilingual, "42")

    assert asked == ["it", "de", "fr", "en"]


@pytest.mark.parametrize("language", ["de", "ko", "ar", "hi", "el", "tr"])
async def test_each_language_comes_out(multilingual: ChatterboxSpeech, language: str) -> None:
    assert (await takes(multilingual, "Hallo 안녕 مرحبا नमस्ते γειά", language=language))[0].any()


@pytest.mark.parametrize("language", ["ja", "zh", "he", "ru"])
async def test_a_language_that_needs_more_is_off_and_says_what(multilingual: ChatterboxSpeech, language: str) -> None:
    assert language not in multilingual.languages
    with pytest.raises(InvalidRequest, match=f"{language} is switched off: it needs {chatterbox.NEEDED[language][1]}"):
        await takes(multilingual, SENTENCE, language=language)


def test_a_language_is_on_where_its_parts_are(
    folders: dict[Variant, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    parts = {module for module, _ in chatterbox.NEEDED.values()}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name in parts else find(name))
    multilingual = importlib.import_module("chatterbox.mtl_tts")

    assert {"ja", "he", "ru"} <= set(chatterbox._languages(multilingual, tmp_path))
    assert "zh" not in chatterbox._languages(multilingual, tmp_path)
    (tmp_path / "Cangjie5_TC.json").touch()
    assert "zh" in chatterbox._languages(multilingual, tmp_path)


async def test_english_voices_speak_no_german(loaded: dict[Variant, ChatterboxSpeech]) -> None:
    with pytest.raises(InvalidRequest, match="there are en"):
        await takes(loaded["turbo"], "Guten Tag", language="de")


async def test_a_default_language_that_the_model_lacks_is_refused(folders: dict[Variant, Path]) -> None:
    with pytest.raises(LoadFailed, match="'de' is not one"):
        await load(entry("default", default_language="de"), folders["default"])


# Faults of chatterbox-tts 0.1.7


async def test_a_clip_s_loudness_is_measured_in_single_precision(loaded: dict[Variant, ChatterboxSpeech]) -> None:
    turbo = loaded["turbo"]._tts
    sound = np.random.default_rng(0).normal(scale=0.1, size=48_000).astype(np.float32)

    assert type(turbo).norm_loudness(turbo, sound, 24_000).dtype == np.float64
    assert turbo.norm_loudness(sound, 24_000).dtype == np.float32


async def test_no_hook_outlives_its_piece(multilingual: ChatterboxSpeech) -> None:
    await takes(multilingual, SENTENCE)
    await takes(multilingual, SENTENCE)

    assert spies(multilingual) == 0


@pytest.mark.parametrize("text", ["A", "Hi", "I.", "7"])
async def test_the_shortest_texts_are_spoken(multilingual: ChatterboxSpeech, text: str) -> None:
    assert (await takes(multilingual, text))[0].any()


async def test_the_vocoder_is_given_sounds_alone(
    multilingual: ChatterboxSpeech, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    inference = multilingual._tts.s3gen.inference

    def noted(speech_tokens: Any, **how: Any) -> Any:
        given.extend(speech_tokens.tolist())
        return inference(speech_tokens, **how)

    monkeypatch.setattr(multilingual._tts.s3gen, "inference", noted)
    await takes(multilingual, SENTENCE)

    assert given
    assert max(given) < 6561


async def test_a_piece_without_any_sound_is_a_short_silence(
    speech: ChatterboxSpeech, monkeypatch: pytest.MonkeyPatch
) -> None:
    def steering_only(*_: Any, **__: Any) -> Any:
        return torch.full((1, 3), 6562)

    monkeypatch.setattr(speech._tts.t3, "inference", _over(speech._tts.t3.inference, steering_only))
    monkeypatch.setattr(speech._tts.t3, "inference_turbo", _over(speech._tts.t3.inference_turbo, steering_only))

    assert not (await takes(speech, SENTENCE))[0].any()


def _over(guarded: Any, inference: Any) -> Any:
    return type(guarded)(guarded.func, inference)


async def test_no_guidance_is_a_choice_too(loaded: dict[Variant, ChatterboxSpeech]) -> None:
    assert (await takes(loaded["default"], SENTENCE, cfg_weight=0))[0].any()


@pytest.mark.parametrize("variant", VARIANTS)
async def test_loading_asks_nobody_on_the_network(
    folders: dict[Variant, Path], variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def refuse(*address: object) -> None:
        asked.append(address)
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    runtime = await load(entry(variant), folders[variant])
    await runtime.close()

    assert asked == []


async def test_what_chinese_needs_is_read_beside_the_weights(folders: dict[Variant, Path], tmp_path: Path) -> None:
    for path in folders["multilingual"].iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "Cangjie5_TC.json").write_text('["你\\tonf"]')
    runtime = await load(entry("multilingual"), tmp_path)
    read = runtime._tts.tokenizer.cangjie_converter.word2cj
    await runtime.close()

    assert read == {"你": "onf"}


async def test_without_its_watermark_it_is_not_loaded(
    folders: dict[Variant, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("perth"), "PerthImplicitWatermarker", None)

    with pytest.raises(RuntimeMissing, match="setuptools below 81"):
        await load(entry("turbo"), folders["turbo"])


async def test_no_bar_and_no_word_is_printed(speech: ChatterboxSpeech, capfd: pytest.CaptureFixture[str]) -> None:
    await takes(speech, SENTENCE)

    assert capfd.readouterr() == ("", "")


async def test_a_closed_model_is_let_go(folders: dict[Variant, Path]) -> None:
    import weakref

    runtime = await load(entry("multilingual"), folders["multilingual"])
    await takes(runtime, SENTENCE)
    heaviest = weakref.ref(runtime._tts.t3)
    await runtime.close()

    assert heaviest() is None


def test_it_answers_to_clips_alone(clip: Clip) -> None:
    assert chatterbox.voices({"anna": clip}) == ("anna",)
