"""llmux's own routes, answered before LiteLLM's of the same name."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from litellm.proxy._types import UserAPIKeyAuth

from hooks.authentication import Authenticate
from llmux.errors import ModelNotFound
from llmux.request import errors_noted
from vram.arbiter import Arbiter
from vram.snapshot import Snapshot


def routes(arbiter: Arbiter[Any], authenticate: Authenticate, names: Collection[str], started_s: int) -> APIRouter:
    """GET /health without a key; GET /v1/models and /vram with one.

    authenticate: asked here itself, because LiteLLM's own dependency knows LiteLLM's routes alone
    names: what /v1/models lists, in order
    started_s: Unix time that stands as the models' creation
    """
    router = APIRouter()

    async def bearer(request: Request) -> UserAPIKeyAuth:
        header = request.headers.get("authorization", "")
        return await authenticate(request, header if header.startswith("Bearer ") else None)

    Key = Annotated[UserAPIKeyAuth, Depends(bearer)]

    def listed(key: UserAPIKeyAuth) -> list[dict[str, Any]]:
        allowed = [name for name in names if not key.models or name in key.models]
        return [{"id": name, "object": "model", "created": started_s, "owned_by": "llmux"} for name in allowed]

    @router.get("/health")
    async def health() -> dict[str, Any]:
        return health_report(arbiter.snapshot())

    @router.get("/vram")
    async def vram(_: Key) -> dict[str, Any]:
        return vram_report(arbiter.snapshot())

    @router.get("/v1/models")
    async def models(key: Key) -> dict[str, Any]:
        return {"object": "list", "data": listed(key)}

    @router.get("/v1/models/{name:path}")
    async def model(name: str, key: Key) -> Mapping[str, Any]:
        with errors_noted():
            for entry in listed(key):
                if entry["id"] == name:
                    return entry
            raise ModelNotFound(f"there is no model {name!r}; GET /v1/models lists the names", param="model")

    return router


def health_report(snapshot: Snapshot) -> dict[str, Any]:
    """GET /health, in GB (10^9 bytes)."""
    loaded = {
        model.id: {"type": model.task, "vram_gb": _gb(model.bytes)}
        for model in snapshot.models
        if model.phase == "resident"
    }
    return {"status": "ok", "loaded_models": loaded, "available_vram_gb": _gb(snapshot.available_bytes)}


def vram_report(snapshot: Snapshot) -> dict[str, Any]:
    """GET /vram: the budget, and each model's state, in GB (10^9 bytes)."""
    return {
        "budget_gb": _gb(snapshot.budget_bytes),
        "available_gb": _gb(snapshot.available_bytes),
        "foreign_gb": _gb(snapshot.others_bytes),
        "waiting": sum(model.waiting for model in snapshot.models),
        "models": {
            model.id: {
                "type": model.task,
                "state": model.phase,
                "vram_gb": _gb(model.bytes),
                "leases": model.leases,
                "waiting": model.waiting,
            }
            for model in snapshot.models
        },
    }


def _gb(size: int) -> float:
    return round(size / 1e9, 3)
