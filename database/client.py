"""LiteLLM's Prisma client for Python, generated without Prisma's command line and without a network.

Prisma's parser, which tells prisma's own generator what is in schema.prisma, comes as WebAssembly from npm.
"""

import asyncio
import hashlib
import importlib.metadata
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

from database import programs
from database.environment import ENGINE
from database.errors import DatabaseError
from database.installation import check_installed

log = logging.getLogger(__name__)

_PARSE = """
const prisma = require('@prisma/prisma-schema-wasm');
const prismaSchema = require('fs').readFileSync(process.argv[1], 'utf8');
const dmmf = prisma.get_dmmf(JSON.stringify({ prismaSchema }));
const config = prisma.get_config(JSON.stringify({ prismaSchema, env: {}, ignoreEnvVarErrors: true }));
process.stdout.write(`{"dmmf": ${dmmf}, "config": ${config}}`);
"""


async def parse(schema: Path) -> bytes:
    """What Prisma's parser makes of schema.prisma: JSON with the members dmmf and config. Raises DatabaseError."""
    check_installed()
    return await _run([str(programs.node()), "-e", _PARSE, str(schema)], "Prisma's parser")


async def client(schema: Path, folder: Path) -> Path:
    """The folder whose package `prisma` is the client for a schema; generated where it is not there yet.

    folder: for generated clients; others than the one asked for are removed from it
    """
    packages = folder / _stamp(schema)
    if packages.exists():
        return packages
    log.info("generating LiteLLM's database client, once")
    parsed = json.loads(await parse(schema))
    fresh = folder / "new"
    shutil.rmtree(folder, ignore_errors=True)
    fresh.mkdir(mode=0o700, parents=True)
    request = json.dumps({"schema": str(schema), **parsed})
    command = [sys.executable, "-m", "database.generation", str(fresh / "prisma")]
    await _run(command, "prisma's generator", request.encode())
    fresh.rename(packages)
    return packages


def _stamp(schema: Path) -> str:
    """Of everything that decides what is generated."""
    inputs = [
        schema.read_bytes(),
        importlib.metadata.version("prisma").encode(),
        sys.version.encode(),
        Path(__file__).with_name("generation.py").read_bytes(),
        Path(__file__).with_name("engine_client.py").read_bytes(),
        (ENGINE / "package-lock.json").read_bytes(),  # names the parser's version
    ]
    return hashlib.sha256(b"\0".join(hashlib.sha256(each).digest() for each in inputs)).hexdigest()[:16]


async def _run(command: list[str], name: str, given: bytes = b"") -> bytes:
    """Run a program in the folder where it finds its packages."""
    above = str(Path(__file__).parents[1])
    search = os.pathsep.join(filter(None, [above, os.environ.get("PYTHONPATH")]))
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ENGINE,
        env={**os.environ, "PYTHONPATH": search},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        answer, said = await process.communicate(given)
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode != 0:
        raise DatabaseError(f"{name} failed: {(said.decode(errors='replace').strip().splitlines() or ['?'])[-1]}")
    return answer
