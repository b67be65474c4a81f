"""What LiteLLM looks for at each request, and never finds: parts of it that need packages which are not installed.

Python remembers what was imported, and not what could not be: each time it reads the part again and runs it up to the
import that fails. That is 1.5 ms of a request.
"""

import importlib.util
import sys
from collections.abc import Mapping

_NEEDED: Mapping[str, str] = {
    "litellm.integrations.otel.logger": "opentelemetry.sdk",
    "litellm_enterprise": "litellm_enterprise",
}
"""Which package each part needs."""


def mark_absent(needed: Mapping[str, str] = _NEEDED) -> None:
    """Whoever imports such a part from now on is told at once that it is not there, as before: ModuleNotFoundError."""
    for part, package in needed.items():
        if not _is_installed(package):
            sys.modules.setdefault(part, None)  # type: ignore[arg-type]  # Python's own word for it


def _is_installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # nor is what it is a part of
        return False
