"""Parts of LiteLLM that cannot be imported are not looked for again, and those that can be are left alone."""

import colorsys
import importlib
import sys

import pytest

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
