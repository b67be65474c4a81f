"""LiteLLM with a database, and nothing of llmux: `python serving.py STATE_DIR PORT`.

With DATABASE_URL in the environment it uses that one, and else one of its own.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

import database


async def serve(state_dir: Path, port: int) -> None:
    url = os.environ.get("DATABASE_URL")
    async with database.external(url, state_dir) if url else database.embedded(state_dir) as environment:
        environment.apply()
        import uvicorn
        from litellm.proxy.proxy_server import app

        # uvicorn raises the signal that stopped it once more, which would end this before the database is stopped.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        await uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port)).serve()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
