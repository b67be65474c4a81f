from typing import Any

from rich.console import Console

from demo.vram import Row, rows, table


def health(**models: float) -> dict[str, Any]:
    return {"loaded_models": {name: {"type": "tts", "vram_gb": size} for name, size in models.items()}}


def test_a_step_that_moves_nothing_marks_nothing() -> None:
    assert rows(health(hibari=0.1), health(hibari=0.1)) == [Row("hibari", "tts", 0.1, "")]


def test_what_came_and_what_went_is_marked() -> None:
    moved = rows(health(hibari=0.1, whisper=0.3), health(whisper=0.3, smollm2=0.3))

    assert [(row.model, row.change) for row in moved] == [
        ("whisper", ""),
        ("smollm2", "loaded"),
        ("hibari", "evicted"),
    ]


def test_the_table_gives_sizes_in_mb_and_what_is_free() -> None:
    console = Console(width=80)
    with console.capture() as capture:
        console.print(table([Row("whisper-base", "asr", 0.3, "loaded"), Row("hibari", "tts", 0.1, "evicted")], 0.35))

    printed = " ".join(capture.get().split())
    assert "whisper-base │ asr │ 300 MB │ loaded" in printed
    assert "hibari │ tts │ - │ evicted" in printed
    assert "free │ │ 350 MB" in printed
