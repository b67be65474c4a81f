"""Writes LiteLLM's Prisma client, in a process of its own: `python -m database.generation FOLDER` with a request on
standard input. prisma's generator takes 200 MB and keeps its state in globals.
"""

import compileall
import json
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

CLIENT = Path(__file__).with_name("engine_client.py")
"""Takes the place of the generated client's own way to an engine."""

# Each is a line of the generated client, and what stands there instead.
_PATCHES = {
    # str.splitlines, in textwrap.indent, takes U+2028 and others for ends of lines, and indents inside strings.
    "builder.py": {
        "from textwrap import indent\n": (
            "def indent(text: str, prefix: str) -> str:\n"
            "    return '\\n'.join(prefix + line if line.strip() else line for line in text.split('\\n'))\n"
        ),
    },
}

_TYPES = '''"""For type checkers alone, these are 10 MB of typed dictionaries: at run time each is a dictionary."""


def __getattr__(name: str) -> type[dict]:
    if name.startswith("__"):
        raise AttributeError(name)
    return dict
'''


def generate(request: dict[str, Any], package: Path) -> None:
    """Write the package `prisma` for a schema.

    request: schema (the path of schema.prisma), dmmf and config (what Prisma's parser makes of it)
    """
    warnings.simplefilter("ignore")
    from prisma import config
    from prisma._compat import model_parse
    from prisma.generator.generator import Generator
    from prisma.generator.models import PythonData

    schema = Path(request["schema"])
    (generator,) = request["config"]["generators"]
    data = {
        "datamodel": schema.read_text(encoding="utf-8"),
        "version": config.expected_engine_version,
        "generator": generator | {"output": {"value": str(package), "fromEnvVar": None}, "binaryTargets": []},
        "dmmf": request["dmmf"],
        "schemaPath": str(schema),
        "datasources": request["config"]["datasources"],
        "otherGenerators": [],
        "binaryPaths": {"queryEngine": {}},
    }
    Generator().generate(model_parse(PythonData, data))
    patch(package)
    shutil.copy(CLIENT, package / "engine" / "query.py")
    (package / "types.py").write_text(_TYPES, encoding="utf-8")
    compileall.compile_dir(package, quiet=2)


def patch(package: Path) -> None:
    """Correct the generated client. Raises ValueError where it is not the one that the corrections were made for."""
    for name, corrections in _PATCHES.items():
        text = (package / name).read_text(encoding="utf-8")
        for line, instead in corrections.items():
            if text.count(line) != 1:
                raise ValueError(f"prisma's generated {name} has changed: {line.strip()!r} is not there once")
            text = text.replace(line, instead)
        (package / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    generate(json.load(sys.stdin), Path(sys.argv[1]))
