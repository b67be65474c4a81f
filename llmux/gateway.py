"""Builds the application: LiteLLM's proxy, llmux's routes and hooks, the providers and the arbiter, in one process.

Importing this module imports LiteLLM, which reads `litellm_settings.ENVIRONMENT` then: set it before.
"""

import gc
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import litellm
import yaml
from litellm.proxy import proxy_server
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from hooks import text_chunk
from hooks.admission import Admission
from hooks.authentication import authentication
from hooks.overrides import Overrides
from hooks.permission import may_use
from hooks.slot import Slot
from llmux import client_keys, litellm_accounts
from llmux.administration import ADMINISTRATION, PAGES, SELF_SERVICE, Administration
from llmux.answer import Answer
from llmux.arbitration import arbiter_of
from llmux.config import PROVIDER, Config
from llmux.errors import InvalidRequest, LlmuxError
from llmux.huge_pages import use_huge_pages
from llmux.intake import Intake
from llmux.keys import KeyFile
from llmux.litellm_absent import leave_out_unreachable, mark_absent
from llmux.litellm_settings import litellm_config
from llmux.metrics import ArbiterMetrics
from llmux.performance_route import performance_route
from llmux.routes import key_of, routes, tell
from llmux.secrets import write_private
from llmux.surface import ROUTES, Surface
from llmux.upload import Upload
from llmux.waiting import Waiting
from providers import litellm_audio, litellm_stream, voices
from providers.chat import ChatProvider
from providers.leased import Leased
from providers.runtime import Runtime
from providers.speech import SpeechProvider
from providers.transcription import TranscriptionProvider
from vram.arbiter import Arbiter

_COUNTERS = 100_000
"""Of the limits of keys, a few for each key that asked within the last minute. LiteLLM's own 200 are full with some 60
keys, and whose counter makes room for another's may ask anew.
"""


_YOUNG = 10_000
"""Objects after which Python looks for those that only keep each other. With its own 700 that takes 2 % of the event
loop's time.
"""


@dataclass(frozen=True, slots=True)
class Gateway:
    """app: what a server runs; close: refuses new work at once, so that a stopping server waits for nobody in vain"""

    app: ASGIApp
    close: Callable[[], None]


def build(config: Config, master_key: str, on_failure: Callable[[], None]) -> Gateway:
    """The gateway of a configuration. Once a process: LiteLLM's state is global.

    on_failure: called once when the GPU has failed under this process, which is to end
    """
    rendered = config.state_dir / "litellm.yaml"
    write_private(rendered, yaml.safe_dump(litellm_config(config), sort_keys=False))
    os.environ.update(CONFIG_FILE_PATH=str(rendered), LITELLM_MASTER_KEY=master_key)  # read as LiteLLM starts
    settings = config.settings
    metrics = ArbiterMetrics()
    arbiter = arbiter_of(config, metrics, on_failure)
    metrics.watch(arbiter.snapshot)
    leased = Leased(arbiter, request_s=settings.limits.request_s)
    litellm.custom_provider_map = [{"provider": PROVIDER, "custom_handler": ChatProvider(leased, settings)}]
    litellm_stream.install()
    text_chunk.install()
    litellm_accounts.install()
    mark_absent()
    clips = voices.read(config.voices_dir)
    litellm_audio.install(
        TranscriptionProvider(leased, settings.limits), SpeechProvider(leased, settings.limits, clips)
    )
    names = [entry["model_name"] for entry in config.litellm["model_list"]]
    elsewhere = {name for name in (*names, *config.aliases) if config.named(name) is None}
    litellm.callbacks.append(Admission(config, arbiter, may_use, elsewhere))
    app = proxy_server.app
    has_database = settings.database != "none"
    if not has_database:
        proxy_server.user_custom_auth = authentication(master_key, KeyFile(config.state_dir))
    own = routes(arbiter, config, metrics, may_use, names, clips, started_s=int(time.time()))
    app.router.routes[:0] = [*own.routes, *performance_route(leased, config).routes]
    app.add_exception_handler(LlmuxError, tell)
    app.add_exception_handler(json.JSONDecodeError, _unreadable)
    proxy_server.proxy_logging_obj.internal_usage_cache.dual_cache.update_in_memory_max_size(_COUNTERS)
    litellm.require_auth_for_metrics_endpoint = False  # our /metrics asks for any key, LiteLLM's for its admin's
    keys = _client_keys(app, master_key, config.state_dir) if has_database else _nothing
    app.router.lifespan_context = _lifespan(app.router.lifespan_context, arbiter, settings.limits.stop_s, keys)
    known: ASGIApp = Overrides(Waiting(Slot(Upload(app))), elsewhere=elsewhere)
    inner: ASGIApp = Intake(known, body_bytes=settings.limits.request_body)
    opened = settings.open_routes
    if has_database:
        inner = Administration(inner, key_of)
        opened = (*opened, *PAGES, *SELF_SERVICE, *ADMINISTRATION)
    leave_out_unreachable(app, (*ROUTES, *opened))
    return Gateway(Answer(Surface(inner, opened=opened)), arbiter.close)


async def _unreadable(request: Request, error: Exception) -> Response:
    """LiteLLM reads one field of a form as JSON, before it looks at the key, and handles no fault of it."""
    return await tell(request, InvalidRequest("metadata must be an object, written as JSON", param="metadata"))


Preparation = Callable[[], Awaitable[None]]


async def _nothing() -> None:
    pass


def _client_keys(app: ASGIApp, master_key: str, state_dir: Path) -> Preparation:
    """Makes the first keys once LiteLLM answers."""

    async def make() -> None:
        headers = {"Authorization": f"Bearer {master_key}"}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://llmux", headers=headers) as http:
            client_keys.show(await client_keys.make_client_keys(http, state_dir))

    return make


def _lifespan(of_litellm: Any, arbiter: Arbiter[Runtime], stop_s: float, prepare: Preparation) -> Any:
    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Any]:
        async with of_litellm(app) as state:
            await prepare()
            await arbiter.start()
            gc.collect()
            gc.freeze()  # what is there now, stays: to look through all of LiteLLM again would stop every stream
            gc.set_threshold(_YOUNG)
            use_huge_pages()
            try:
                yield state
            finally:
                await arbiter.stop(stop_s)

    return lifespan
