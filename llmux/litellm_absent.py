"""What LiteLLM looks for at each request, and never finds: parts of it that are not installed, or not to be reached.

Python remembers what was imported, and not what could not be: each time it reads the part again and runs it up to the
import that fails. That is 1.5 ms of a request. And LiteLLM loads some forty of its parts with the first request for
one, so that each request is held against all their paths.
"""

import importlib.util
import sys
from collections.abc import Collection, Mapping

from litellm.proxy._lazy_features import LAZY_FEATURES, LazyFeature, LazyFeatureMiddleware
from starlette.applications import Starlette

_NEEDED: Mapping[str, str] = {
    "litellm.integrations.otel.logger": "opentelemetry.sdk",
    "litellm_enterprise": "litellm_enterprise",
    "litellm_enterprise.proxy.auth.route_checks": "litellm_enterprise",
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


def leave_out_unreachable(app: Starlette, routes: Collection[str]) -> None:
    """Before the first request. routes: that can be reached, as llmux/surface.py has them"""
    for middleware in app.user_middleware:
        if middleware.cls is LazyFeatureMiddleware:
            reached = (feature for feature in LAZY_FEATURES if any(_reaches(route, feature) for route in routes))
            middleware.kwargs["features"] = tuple(reached)


def _reaches(route: str, feature: LazyFeature) -> bool:
    if not route.endswith("/*"):
        return bool(feature.matches(route))
    above = route[:-1]
    below = any(above.startswith(prefix) or prefix.startswith(above) for prefix in feature.path_prefixes)
    return below or bool(feature.path_suffixes)
