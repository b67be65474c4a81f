"""Parts of LiteLLM that cannot be imported are not looked for again, and those that can be are left alone."""

import colorsys
import importlib
import sys

import pytest
from litellm.proxy.auth import user_api_key_auth
from litellm.proxy.auth.route_checks import RouteChecks

from llmux.litellm_absent import mark_absent


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
