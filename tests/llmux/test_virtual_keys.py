from typing import Any

import pytest
from rich.console import Console

from llmux.running import RunningGateway
from llmux.virtual_keys import VirtualKey, VirtualKeys, table


def described(name: str, **given: Any) -> dict[str, Any]:
    """A key as LiteLLM describes it."""
    limits = dict.fromkeys(("max_budget", "rpm_limit", "tpm_limit", "max_parallel_requests", "expires", "blocked"))
    return {"key_alias": name, "key_name": "sk-...x", "token": f"hash of {name}", "models": [], "spend": 0.0} | (
        limits | given
    )


class Recorded(RunningGateway):
    """Answers from pages of keys, and keeps what it is asked."""

    def __init__(self, *pages: list[dict[str, Any]]) -> None:
        super().__init__("http://127.0.0.1:8081", "sk-master")
        self._pages = pages
        self.posted: list[tuple[str, Any]] = []

    def get(self, path: str, **query: str | int | bool) -> Any:
        assert path == "/key/list"
        keys = self._pages[int(query.get("page", 1)) - 1]
        named = [key for key in keys if query.get("key_alias") in (None, key["key_alias"])]
        return {"keys": named, "total_pages": len(self._pages)}

    def post(self, path: str, body: Any, *, answer_s: float = 1) -> Any:
        self.posted.append((path, body))
        return {"key": "sk-new"}


def test_all_pages_are_read() -> None:
    gateway = Recorded([described("one"), described("two")], [described("three")])
    assert [key.name for key in VirtualKeys(gateway).all()] == ["one", "two", "three"]


def test_a_key_is_created_with_its_limits_and_changed_by_its_hash() -> None:
    gateway = Recorded([described("Guest")])
    keys = VirtualKeys(gateway)
    assert keys.create("Guest", {"rpm_limit": 3}) == "sk-new"
    keys.update("Guest", {"rpm_limit": None})
    keys.revoke("Guest")
    assert gateway.posted == [
        ("/key/generate", {"key_alias": "Guest", "rpm_limit": 3}),
        ("/key/update", {"key": "hash of Guest", "rpm_limit": None}),
        ("/key/delete", {"keys": ["hash of Guest"]}),
    ]


def test_a_key_that_is_not_there_is_said_to_be_so() -> None:
    with pytest.raises(ValueError, match="keys list"):
        VirtualKeys(Recorded([])).revoke("nobody")


@pytest.mark.parametrize(
    ("given", "row"),
    [
        ({}, "Guest all 0 never"),
        ({"models": ["Chat", "speech"]}, "Guest Chat 0 never"),
        ({"spend": 0.12345, "max_budget": 5.0}, "Guest all 0.1235 of 5 never"),
        ({"rpm_limit": 20, "max_parallel_requests": 1}, "Guest all 0 20 rpm, 1 parallel never"),
        ({"expires": "2026-12-01T10:30:00+00:00"}, "Guest all 0 2026-12-01 10:30"),
        ({"blocked": True}, "Guest all 0 blocked"),
    ],
)
def test_a_row_says_what_a_key_may_do(given: dict[str, Any], row: str) -> None:
    console = Console(width=100)
    with console.capture() as captured:
        console.print(table([VirtualKey.parse(described("Guest", **given))]))
    assert row in [" ".join(line.split()) for line in captured.get().splitlines()]
