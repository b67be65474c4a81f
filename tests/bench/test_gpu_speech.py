import asyncio
from pathlib import Path

import pytest
import torch

from bench import random_chatterbox
from bench.gpu_speech import lengths_as_trained, main, table, tokens_for
from llmux.config import Model
from providers import chatterbox


def test_without_cuda_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    assert main([]) == 2
    assert "no GPU" in capsys.readouterr().err


def test_a_text_takes_as_many_tokens_as_a_trained_voice_takes() -> None:
    assert tokens_for(150) == 250
    assert tokens_for(3) == 25


@pytest.mark.parametrize("variant", ["turbo", "default"])
def test_pieces_are_as_long_as_their_texts(tmp_path: Path, variant: random_chatterbox.Variant) -> None:
    given = {"task": "tts", "runtime": "chatterbox", "weights": "x", "variant": variant, "estimate": "1 GB"}

    async def seconds(text: str) -> float:
        runtime = await chatterbox.load(Model.model_validate(given), tmp_path)
        takes = [take async for take in runtime.synthesize(text, voice="default", speed=1.0, options={})]
        await runtime.close()
        return sum(map(len, takes)) / 24_000

    with random_chatterbox.small():
        random_chatterbox.write(tmp_path, variant)
        with lengths_as_trained():
            # of 8,194 speech tokens of the untrained model, those without a sound are left out
            assert 0.5 < asyncio.run(seconds("Hello there.")) < 2.0


def test_the_table_is_in_gigabytes() -> None:
    row = {"variant": "turbo", "load_s": 1.0, "first_piece_s": 0.5, "realtime_factor": 4.0}
    sizes = {"loaded_bytes": 2 * 10**9, "most_bytes": 3 * 10**9, "left_bytes": 10**8}

    [*_, line] = table({"card": "X", "torch": "2", "variants": [{**row, **sizes}]})
    assert line == "| turbo | 1.0 | 0.50 | 4.00 | 2.00 | 3.00 | 0.10 |"
