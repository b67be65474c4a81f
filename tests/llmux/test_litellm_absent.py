"""Parts of LiteLLM that cannot be had are not looked for again, and those that can be are left alone."""

import colorsys
import importlib
import sys
from collections.abc import Collection

import pytest
from litellm.proxy._lazy_features import LAZY_FEATURES, LazyFeatureMiddleware
from litellm.proxy.auth import user_api_key_auth
from litellm.proxy.auth.route_checks import RouteChecks
from starlette.applications import Starlette

from llmux.litellm_absent import leave_out_unreachable, mark_absent
from llmux.surface import ROUTES


@pytest.mark.parametrize("package", ["not_installed_at_all", "not_installed_at_all.part", "json.no_such_part"])
def test_what_is_not_installed_is_not_found_at_once(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.delitem(sys.modules, "colorsys")
    mark_absent({"colorsys": package})
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("colorsys")


def test_what_is_installed_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys")
    mark_absent({"colorsys": "json.decoder"})
    assert importlib.import_module("colorsys")


def test_what_was_imported_stays() -> None:
    mark_absent({"colorsys": "not_installed_at_all"})
    assert importlib.import_module("colorsys") is colorsys


def test_litellm_still_looks_for_them_at_each_request() -> None:
    """When this fails, look at what LiteLLM does now: llmux/litellm_absent.py may have become useless."""
    assert "litellm.integrations.otel.logger" in user_api_key_auth._seed_request_destinations.__code__.co_names
    assert any(name.startswith("litellm_enterprise.") for name in RouteChecks.should_call_route.__code__.co_names)


def left(routes: Collection[str]) -> set[str]:
    app = Starlette()
    app.add_middleware(LazyFeatureMiddleware, fastapi_app=app, features=LAZY_FEATURES)
    leave_out_unreachable(app, routes)
    (middleware,) = app.user_middleware
    return {feature.name for feature in middleware.kwargs["features"]}  # type: ignore[attr-defined]


def test_parts_behind_closed_routes_are_left_out() -> None:
    exact = [route for route in ROUTES if not route.endswith("/*")]
    assert left(exact) == {"anthropic_passthrough"}


@pytest.mark.parametrize("opened", ["/prompts/list", "/prompts/*", "/*"])
def test_a_part_behind_an_open_route_stays(opened: str) -> None:
    assert "prompts" in left([*ROUTES, opened])


def test_a_part_whose_paths_only_end_alike_may_be_anywhere() -> None:
    assert "mcp_discoverable" in left(["/anything/*"])
    assert "mcp_discoverable" not in left(["/anything"])
    assert left(["/*"]) == {feature.name for feature in LAZY_FEATURES}
