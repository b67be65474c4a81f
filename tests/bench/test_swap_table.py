"""The table that a person reads."""

from typing import Any

from bench.swap_table import table

RESULT: dict[str, Any] = {
    "about": {
        "card": "NVIDIA Example",
        "driver": "580.1",
        "cuda": "13.0",
        "torch": "2.13.0",
        "transformers": "5.23.0",
        "system": "Linux x86_64, Python 3.12.3",
        "seed": 1,
    },
    "swaps": 200,
    "steps": 260,
    "runs": 2,
    "seconds": 900.0,
    "evictions": {"room": 180},
    "out_of_memory": 0,
    "rates": {"disk": 2e9, "cached": 9e9, "pageable": 1.1e10, "pinned": 5e10},
    "left_at_the_end_bytes": 21_000_000,
    "models": [
        {
            "model": "qwen3.5-4b",
            "player": "transformers",
            "loads": 40,
            "weights_bytes": 9_309_000_000,
            "taken_bytes": 9_600_000_000,
            "first_error": 0.12,
            "worst_error": -0.004,
            "load_s": 3.4,
            "copy_s": 0.19,
            "read_s": 1.03,
            "left_card_bytes": 2_000_000,
            "left_process_bytes": None,
        }
    ],
    "stand_ins": {"gpt-oss-20b": "the kernels package is not installed"},
    "left_out": {"qwen3.5-9b-fp8-uncensored": "llama.cpp is built without CUDA"},
    "missed": ["1 times out of memory, the goal is 0"],
}


def test_it_says_machine_figures_and_what_is_missing() -> None:
    lines = list(table(RESULT))
    assert lines[0].startswith("NVIDIA Example, driver 580.1, CUDA 13.0, torch 2.13.0, transformers 5.23.0")
    assert lines[1] == "200 swaps in 260 steps, 2 runs, 900 s, seed 1"
    assert lines[2] == "out of memory: 0; evictions: room 180"
    assert lines[3] == "GB/s: disk 2.0, cached 9.0, pageable 11.0, pinned 50.0"
    [row] = [line.split() for line in lines if line.startswith("qwen3.5-4b")]
    assert " ".join(row) == "qwen3.5-4b transformers 40 9.31 9.60 +12.0% -0.4% 3.4 0.2 1.0 2 -"
    assert "stand-in for gpt-oss-20b: the kernels package is not installed" in lines
    assert "left out, qwen3.5-9b-fp8-uncensored: llama.cpp is built without CUDA" in lines
    assert lines[-1] == "goal missed: 1 times out of memory, the goal is 0"
    assert all(len(line) <= 140 for line in lines)


def test_headings_stand_over_their_columns() -> None:
    heading, row = [line for line in table(RESULT) if line.startswith((" " * 28, "qwen"))]
    assert len(heading) == len(row)
