"""llmux's own routes, answered before LiteLLM's of the same name."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from litellm.proxy._types import SpecialHeaders, UserAPIKeyAuth
from litellm.proxy.auth.user_api_key_auth import user_api_key_auth
from litellm.proxy.management_endpoints.key_management_endpoints import info_key_fn
from litellm.proxy.utils import hash_token
from pydantic import BaseModel, ConfigDict, ValidationError

from hooks.permission import Permission
from llmux import status
from llmux.administration import require_administrator
from llmux.config import Config, Model
from llmux.errors import InvalidRequest, LlmuxError, ModelBusy, ModelNotFound, of_refusal
from llmux.metrics import CONTENT_TYPE, ArbiterMetrics
from llmux.request import errors_noted
from llmux.weights import require_weights
from providers.loading import voices_of
from providers.runtime import Clip
from vram.arbiter import Arbiter
from vram.refusal import Busy, Refused
from vram.snapshot import Snapshot


async def key_of(request: Request) -> UserAPIKeyAuth:
    """Whose key the request has: what LiteLLM answers for GET /v1/models, which is for every key.

    Asked about a route that it does not know, LiteLLM takes it for its admin's alone, and a physical model in a body
    for one that the key may not use.
    """

    async def no_body() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    headers = [(name, value) for name, value in request.scope["headers"] if not name.startswith(b"content-")]
    scope = {**request.scope, "method": "GET", "path": "/v1/models", "raw_path": b"/v1/models", "headers": headers}
    return await user_api_key_auth(
        Request(scope, no_body),
        api_key=request.headers.get(SpecialHeaders.openai_authorization.value, ""),
        azure_api_key_header=request.headers.get(SpecialHeaders.azure_authorization.value, ""),
        anthropic_api_key_header=request.headers.get(SpecialHeaders.anthropic_authorization.value),
        google_ai_studio_api_key_header=request.headers.get(SpecialHeaders.google_ai_studio_authorization.value),
        azure_apim_header=request.headers.get(SpecialHeaders.azure_apim_authorization.value),
        custom_litellm_key_header=request.headers.get(SpecialHeaders.custom_litellm_api_key.value),
    )


Key = Annotated[UserAPIKeyAuth, Depends(key_of)]
KeyOfLiteLLM = Annotated[UserAPIKeyAuth, Depends(user_api_key_auth)]


async def tell(request: Request, error: Exception) -> Response:
    """The answer to a LlmuxError that a route raised, as an exception handler."""
    assert isinstance(error, LlmuxError)
    return JSONResponse(error.body(), error.status_code, error.response_headers())


class Order(BaseModel):
    """The body of POST /vram/load and /vram/unload. model: a physical one"""

    model_config = ConfigDict(extra="forbid", strict=True)

    model: str


class PinOrder(Order):
    """The body of POST /vram/pin."""

    pinned: bool = True


T = TypeVar("T", bound=Order)


async def order_of(kind: type[T], request: Request, key: UserAPIKeyAuth, config: Config) -> T:
    """Raises LlmuxError for another key than the admin's, a body that is no such order, and unknown models."""
    require_administrator(key)
    order = parse(kind, await request.body())
    if order.model not in config.settings.models:
        raise ModelNotFound(
            f"there is no physical model {order.model!r}; GET /vram lists them, "
            "and GET /v1/models the names that clients use",
            param="model",
        )
    return order


def routes(
    arbiter: Arbiter[Any],
    config: Config,
    metrics: ArbiterMetrics,
    may_use: Permission,
    names: Collection[str],
    clips: Mapping[str, Clip],
    started_s: int,
) -> APIRouter:
    """GET /health without a key; GET /v1/models, /v1/audio/models, /v1/audio/voices, /vram and /metrics with one; POST
    /vram/... with the admin's.

    names: what /v1/models lists, in order
    clips: voices that speech models can take over
    started_s: Unix time that stands as the models' creation
    """
    router = APIRouter()

    async def listed(key: UserAPIKeyAuth) -> list[dict[str, Any]]:
        allowed = [name for name in names if await may_use(key, name)]
        return [{"id": name, "object": "model", "created": started_s, "owned_by": "llmux"} for name in allowed]

    def vram_report() -> dict[str, Any]:
        return status.report(arbiter.snapshot())

    def state_of(model: str) -> dict[str, Any]:
        return {"model": model, **vram_report()["models"][model]}

    @router.get("/health")
    async def health() -> dict[str, Any]:
        return health_report(arbiter.snapshot())

    @router.get("/vram")
    async def vram(_: Key) -> dict[str, Any]:
        return vram_report()

    @router.post("/vram/load")
    async def load(request: Request, key: Key) -> dict[str, Any]:
        with errors_noted():
            order = await order_of(Order, request, key, config)
            require_weights(order.model, config)
            try:
                await arbiter.load(order.model)
            except Refused as refused:
                raise of_refusal(refused) from None
            return state_of(order.model)

    @router.post("/vram/unload")
    async def unload(request: Request, key: Key) -> dict[str, Any]:
        with errors_noted():
            order = await order_of(Order, request, key, config)
            try:
                await arbiter.unload(order.model)
            except Busy as busy:
                raise ModelBusy(f"{busy.model} {busy.reason}; try again when it is idle", param="model") from None
            except Refused as refused:
                raise of_refusal(refused) from None
            return state_of(order.model)

    @router.post("/vram/pin")
    async def pin(request: Request, key: Key) -> dict[str, Any]:
        with errors_noted():
            order = await order_of(PinOrder, request, key, config)
            arbiter.pin(order.model, order.pinned)
            return state_of(order.model)

    @router.get("/key/info")
    async def key_info(asking: KeyOfLiteLLM, key: str | None = None) -> Any:
        """LiteLLM's own, which takes all keys that belong to no user for those of one user."""
        own = key is None or asking.token in (key, hash_token(key))
        with errors_noted():
            if not own:
                require_administrator(asking)
        return await info_key_fn(key, asking)

    @router.get("/metrics")
    async def prometheus(_: Key) -> Response:
        return Response(metrics.exposition(), media_type=CONTENT_TYPE)

    @router.get("/v1/models")
    async def models(key: Key) -> dict[str, Any]:
        return {"object": "list", "data": await listed(key)}

    @router.post("/v1/audio/translations")
    async def translations(_: Key) -> None:
        with errors_noted():
            raise InvalidRequest("speech is not translated; transcribe it, and ask a chat model to translate")

    @router.get("/v1/models/{name:path}")
    async def model(name: str, key: Key) -> Mapping[str, Any]:
        with errors_noted():
            for entry in await listed(key):
                if entry["id"] == name:
                    return entry
            raise ModelNotFound(f"there is no model {name!r}; GET /v1/models lists the names", param="model")

    async def speaking(key: UserAPIKeyAuth) -> list[str]:
        """Virtual models of speech that the key may use."""
        allowed = [entry["id"] for entry in await listed(key)]
        return [name for name in allowed if name in config.virtual and config.physical(name).task == "tts"]

    @router.get("/v1/audio/models")
    async def audio_models(key: Key) -> dict[str, Any]:
        return {"models": [{"id": name, "name": name} for name in await speaking(key)]}

    @router.get("/v1/audio/voices")
    async def audio_voices(key: Key) -> dict[str, Any]:
        return {"voices": voices_report({name: config.physical(name) for name in await speaking(key)}, clips)}

    return router


def voices_report(models: Mapping[str, Model], clips: Mapping[str, Clip]) -> list[dict[str, Any]]:
    """Each voice with the virtual models that speak with it, and the language of those that have one."""
    voices: dict[str, list[str]] = {}
    for name, model in models.items():
        for voice in ("default", *voices_of(model, clips)):
            voices.setdefault(voice, []).append(name)
    return [
        {
            "id": voice,
            "name": voice,
            "models": speaking,
            "language": clips[voice].language if voice in clips else None,
        }
        for voice, speaking in voices.items()
    ]


def parse(kind: type[T], body: bytes) -> T:
    """Raises InvalidRequest, naming what is wrong."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as errors:
        error = errors.errors()[0]
        name = ".".join(str(part) for part in error["loc"])
        raise InvalidRequest(f"{name or 'the body'}: {error['msg'].lower()}", param=name or None) from None


def health_report(snapshot: Snapshot) -> dict[str, Any]:
    """GET /health, in GB (10^9 bytes)."""
    loaded = {
        model.id: {"type": model.task, "vram_gb": round(model.bytes / 1e9, 3)}
        for model in snapshot.models
        if model.phase == "resident"
    }
    return {
        "status": "ok",
        "loaded_models": loaded,
        "available_vram_gb": round(snapshot.available_bytes / 1e9, 3),
    }
