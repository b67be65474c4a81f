"""Snapshots of an arbiter that never was, for tests of what people see of it."""

from vram.snapshot import ModelState


def state(name: str, **more: object) -> ModelState:
    """An absent chat model of 4 GB, but for what is said otherwise."""
    values: dict[str, object] = {
        "id": name,
        "task": "llm",
        "phase": "absent",
        "bytes": 4_000_000_000,
        "leases": 0,
        "waiting": 0,
        "last_used_s_ago": None,
        "pinned": False,
        "stuck": False,
        "predicted_bytes": 3_800_000_000,
        **more,
    }
    return ModelState(**values)  # type: ignore[arg-type]
