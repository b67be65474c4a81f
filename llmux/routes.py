"""llmux's own routes, answered before LiteLLM's of the same name."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from litellm.proxy._types import UserAPIKeyAuth
from litellm.proxy.auth.user_api_key_auth import user_api_key_auth

from llmux.config import Config
from llmux.errors import ModelNotFound
from llmux.request import errors_noted
from vram.arbiter import Arbiter

Key = Annotated[UserAPIKeyAuth, Depends(user_api_key_auth)]


def routes(config: Config, arbiter: Arbiter[Any], names: Collection[str], started_s: int) -> APIRouter:
    """GET /health without a key; GET /v1/models and /vram with one.

    names: what /v1/models lists, in order
    started_s: Unix time that stands as the models' creation
    """
    router = APIRouter()

    def listed(key: UserAPIKeyAuth) -> list[dict[str, Any]]:
        allowed = [name for name in names if not key.models or name in key.models]
        return [{"id": name, "object": "model", "created": started_s, "owned_by": "llmux"} for name in allowed]

    @router.get("/health")
    async def health() -> dict[str, Any]:
        return health_report(config, arbiter)

    @router.get("/vram")
    async def vram(_: Key) -> dict[str, Any]:
        return vram_report(config, arbiter)

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
