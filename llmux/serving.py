"""Runs the gateway in this process until it is told to stop: its database first, and inside it everything else."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import uvicorn

import database
from database.files import only_one
from llmux.config import Config
from llmux.litellm_settings import environment
from llmux.logs import log_to_stderr
from llmux.protocol import Protocol
from llmux.secrets import DATABASE_URL_VARIABLE, database_url
from llmux.server import Server


def serve(config: Config, master_key: str, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT. Ends the process by itself where that did not go well, with an exit code above 0.

    Raises DatabaseError, vram.device.DeviceError, and ValueError for a secret that cannot be used.
    """
    log_to_stderr()
    loop_factory = uvicorn.Config("").get_loop_factory()
    with only_one(config.state_dir), asyncio.Runner(loop_factory=loop_factory) as runner:
        try:
            server = runner.run(_serve(config, master_key, host, port))
        except asyncio.CancelledError:
            raise SystemExit(1) from None  # told to stop before it served
    server.end()


async def _serve(config: Config, master_key: str, host: str, port: int) -> Server:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    _on_signals(lambda: loop.call_soon_threadsafe(task.cancel))
    async with _database(config):
        os.environ.update(environment(config))
        from llmux import gateway  # LiteLLM, which reads the environment as it is imported

        log_to_stderr()  # once more: LiteLLM has handlers of its own
        built = gateway.build(config, master_key, on_failure=lambda: server.fail())  # which is made from it
        settings = config.settings
        server = Server(
            uvicorn.Config(
                built.app,
                host=host,
                port=port,
                http=Protocol,  # httptools loses the body of a request that asks for HTTP/2, and limits no headers
                access_log=False,
                log_config=None,
                server_header=False,
                timeout_graceful_shutdown=max(1, round(settings.limits.stop_s)),
            ),
            built.close,
            stop_s=settings.limits.stop_s,
        )
        _on_signals(lambda: None)  # uvicorn raises it again after its orderly stop, which would break off what follows
        await server.serve()
        return server


def _on_signals(react: Callable[[], object]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: react())


@asynccontextmanager
async def _database(config: Config) -> AsyncIterator[None]:
    """LiteLLM's process finds the configured database inside, and no other."""
    folder = config.state_dir / "database"
    match config.settings.database:
        case "none":
            os.environ.pop(DATABASE_URL_VARIABLE, None)
            yield
        case "embedded":
            async with database.embedded(folder) as found:
                found.apply()
                yield
        case "external":
            async with database.external(database_url(config.state_dir), folder) as found:
                found.apply()
                yield
