from llmux.routes import health_report, vram_report
from vram.snapshot import ModelState, Snapshot


def state(name: str, **more: object) -> ModelState:
    values: dict[str, object] = {
        "id": name,
        "task": "llm",
        "phase": "absent",
        "bytes": 4_000_000_000,
        "leases": 0,
        "waiting": 0,
        "last_used_s": 0.0,
        "pinned": False,
        "stuck": False,
        **more,
    }
    return ModelState(**values)  # type: ignore[arg-type]


SNAPSHOT = Snapshot(
    budget_bytes=16_000_000_000,
    charged_bytes=5_500_000_000,
    unreturned_bytes=0,
    others_bytes=500_000_000,
    available_bytes=10_000_000_000,
    models=(
        state("chat", phase="resident", leases=2, waiting=1),
        state("ears", task="asr", phase="loading", bytes=1_500_000_000, waiting=3),
        state("voice", task="tts"),
    ),
)


def test_health_tells_what_is_resident_in_gb() -> None:
    assert health_report(SNAPSHOT) == {
        "status": "ok",
        "loaded_models": {"chat": {"type": "llm", "vram_gb": 4.0}},
        "available_vram_gb": 10.0,
    }


def test_the_vram_report_tells_of_every_model_and_who_waits() -> None:
    report = vram_report(SNAPSHOT)
    assert (report["budget_gb"], report["available_gb"], report["foreign_gb"], report["waiting"]) == (
        16.0,
        10.0,
        0.5,
        4,
    )
    assert list(report["models"]) == ["chat", "ears", "voice"]
    assert report["models"]["ears"] == {"type": "asr", "state": "loading", "vram_gb": 1.5, "leases": 0, "waiting": 3}
