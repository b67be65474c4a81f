"""The names of litellm_config.yaml as shipped, through a real gateway: tiny checkpoints stand in for the weights."""

import io
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import openai
import pytest
import soundfile
from hibari import Hibari

from llmux.config import Config, load_config
from providers import mxfp4
from tests import checkpoints
from tests.gateway import ROOT, Gateway

SHIPPED = ROOT / "litellm_config.yaml"
CONFIG = load_config(SHIPPED)
CHAT = [name for name in CONFIG.virtual if CONFIG.physical(name).task == "llm"]
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


def write_qwen_gguf(folder: Path) -> None:
    model = CONFIG.settings.models["qwen3.5-9b-fp8-uncensored"]
    assert model.file is not None
    assert model.projector is not None
    checkpoints.write_qwen(folder)
    checkpoints.write_qwen_gguf(folder, folder / model.file, folder / model.projector)


def write_fp8(folder: Path) -> None:
    (folder / "plain").mkdir()
    checkpoints.write_qwen(folder / "plain")
    checkpoints.write_fp8(folder / "plain", folder)


def write_mxfp4(folder: Path) -> None:
    (folder / "plain").mkdir()
    checkpoints.write_gpt_oss(folder / "plain")
    mxfp4.convert(folder / "plain", folder)


WRITERS: Mapping[str, Callable[[Path], None]] = {
    "qwen3.5-9b-fp8": write_fp8,
    "qwen3.5-9b-fp8-uncensored": write_qwen_gguf,
    "qwen3.5-4b": checkpoints.write_qwen,
    "gpt-oss-20b": write_mxfp4,
    "gpt-oss-20b-uncensored": write_mxfp4,
    "cohere-transcribe": checkpoints.write_cohere,
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("shipped")
    shipped = SHIPPED.read_text()
    assert "database: embedded" in shipped
    (folder / SHIPPED.name).write_text(shipped.replace("database: embedded", "database: none"))
    config = load_config(folder / SHIPPED.name)
    for physical, write in WRITERS.items():
        weights = config.models_dir / str(config.settings.models[physical].weights)
        weights.mkdir(parents=True)
        write(weights)
    return config


@pytest.fixture(scope="module")
def gateway(config: Config) -> Iterator[Gateway]:
    gateway = Gateway(config.path)
    yield gateway
    gateway.stop()


def loads(gateway: Gateway, physical: str) -> int:
    with gateway.http() as http:
        said = re.search(rf'^llmux_loads_total{{model="{physical}"}} (\d+)', http.get("/metrics").text, re.MULTILINE)
    return 0 if said is None else int(said[1])


def prompt_tokens(client: openai.OpenAI, name: str) -> int:
    answer = client.chat.completions.create(model=name, messages=HELLO, max_tokens=4, temperature=0)
    assert answer.model == name
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 4
    return answer.usage.prompt_tokens


def test_there_are_sixteen_names_and_every_chat_holds_what_a_coding_agent_sends() -> None:
    assert len(CONFIG.virtual) == 16
    assert len(CHAT) == 12
    assert all(CONFIG.physical(name).context >= 32_768 for name in CHAT)


@pytest.mark.parametrize("physical", sorted({CONFIG.virtual[name].physical for name in CHAT}))
def test_each_view_of_a_chat_model_is_what_it_says_and_switching_loads_nothing(gateway: Gateway, physical: str) -> None:
    client = gateway.openai()
    names = [name for name in CHAT if CONFIG.virtual[name].physical == physical]
    before = loads(gateway, physical)
    tokens = {name: prompt_tokens(client, name) for name in names}
    assert {name: prompt_tokens(client, name) for name in reversed(names)} == tokens
    assert loads(gateway, physical) == before + 1

    hello = {name: tokens[name] - min(tokens.values()) for name in names}
    if physical.startswith("qwen"):  # the one has "</think>" to begin with, and two empty lines
        (instruct,) = (name for name in names if name.endswith("-Instruct"))
        (thinking,) = (name for name in names if name.endswith("-Thinking"))
        assert hello == {thinking: 0, instruct: 4}
    else:  # the vocabulary has a token for each letter
        assert hello == {name: len(name.rpartition("-")[2]) - len("Low") for name in names}


def test_transcription_answers(gateway: Gateway) -> None:
    sound = io.BytesIO()
    soundfile.write(sound, Hibari()("The meeting is on Monday.", seed=1), 24_000, format="WAV")
    said = gateway.openai().audio.transcriptions.create(model="cohere-transcribe", file=("a.wav", sound.getvalue()))
    assert re.match(r"w\d", said.text)


def test_all_that_was_loaded_ran_on_its_own_runtime(gateway: Gateway) -> None:
    with gateway.http() as http:
        known = http.get("/vram").json()["models"]
    assert {name for name in known if loads(gateway, name)} == set(WRITERS)
