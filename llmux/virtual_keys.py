"""LiteLLM's virtual keys, in the database of the gateway that runs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich import box
from rich.table import Column, Table

from llmux.running import RunningGateway

Limits = Mapping[str, int | float | str | Sequence[str] | None]
"""LiteLLM's names for what a key may do (models, max_budget, rpm_limit, tpm_limit, max_parallel_requests, duration);
None lifts one.
"""

_PAGE = 100


@dataclass(frozen=True, slots=True)
class VirtualKey:
    """What is known of a key, which is never the key.

    token: its hash, which names it to LiteLLM
    models: names or groups; empty means all
    spend, max_budget: in the currency of the models' prices
    rpm, tpm: requests and tokens a minute; parallel: requests at one time
    """

    name: str
    models: Sequence[str] = ()
    token: str = ""
    expires: datetime | None = None
    blocked: bool = False
    spend: float = 0.0
    max_budget: float | None = None
    rpm: int | None = None
    tpm: int | None = None
    parallel: int | None = None

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> "VirtualKey":
        """From LiteLLM's description of it."""
        return cls(
            name=given["key_alias"] or given["key_name"],
            models=given["models"],
            token=given["token"],
            expires=None if given["expires"] is None else datetime.fromisoformat(given["expires"]),
            blocked=bool(given["blocked"]),
            spend=given["spend"],
            max_budget=given["max_budget"],
            rpm=given["rpm_limit"],
            tpm=given["tpm_limit"],
            parallel=given["max_parallel_requests"],
        )


class VirtualKeys:
    """Raises NoAnswer, from each method, where the gateway does not run or refuses."""

    def __init__(self, gateway: RunningGateway) -> None:
        self._gateway = gateway

    def all(self) -> Iterator[VirtualKey]:
        """Oldest first."""
        page = pages = 1
        while page <= pages:
            answer = self._list(page=page)
            yield from (VirtualKey.parse(key) for key in answer["keys"])
            page, pages = page + 1, answer["total_pages"]

    def create(self, name: str, limits: Limits) -> str:
        """A new key, shown here and never again."""
        key: str = self._gateway.post("/key/generate", {"key_alias": name, **limits})["key"]
        return key

    def update(self, name: str, limits: Limits) -> None:
        """Change these limits and no other. Raises ValueError where there is no key of this name."""
        self._gateway.post("/key/update", {"key": self._token(name), **limits})

    def revoke(self, name: str) -> None:
        """Raises ValueError where there is no key of this name."""
        self._gateway.post("/key/delete", {"keys": [self._token(name)]})

    def _token(self, name: str) -> str:
        found = self._list(key_alias=name)["keys"]
        if not found:
            raise ValueError(f"there is no key named {name!r}; `python -m llmux keys list` shows what there is")
        token: str = found[0]["token"]
        return token

    def _list(self, **query: str | int) -> Any:
        return self._gateway.get(
            "/key/list", return_full_object=True, size=_PAGE, sort_by="created_at", sort_order="asc", **query
        )


def table(keys: Iterable[VirtualKey]) -> Table:
    """For a terminal."""
    shown = Table(
        Column("name", no_wrap=True),
        Column("models", no_wrap=True),
        Column("spent", justify="right"),
        "limits",
        "ends",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for key in keys:
        budget = "" if key.max_budget is None else f" of {key.max_budget:g}"
        limits = {"rpm": key.rpm, "tpm": key.tpm, "parallel": key.parallel}
        shown.add_row(
            key.name,
            "\n".join(key.models) or "all",
            f"{key.spend:.4g}{budget}",
            ", ".join(f"{limit} {name}" for name, limit in limits.items() if limit is not None),
            "blocked" if key.blocked else "never" if key.expires is None else f"{key.expires:%Y-%m-%d %H:%M}",
        )
    return shown
