"""The gateway that is looked at: its address, the keys for it, what it should serve, and what it says of itself."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import httpx
import openai
from prometheus_client.parser import text_string_to_metric_families

from llmux.config import Config, Task, View

_ANSWER_S = 900.0
"""A load may take llmux.limits.load_s, ten minutes unless the configuration says otherwise."""


class Unreachable(Exception):
    """Nothing can be checked. The message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Served:
    """A name that clients use. Only a configuration tells more than its task."""

    name: str
    task: Task
    physical: str | None = None
    view: View | None = None
    capabilities: tuple[str, ...] = ()


class Gateway:
    """A gateway as its clients meet it.

    key: one that may use every model
    admin_key: None where nobody gave it
    config: what it should serve; None: whatever it lists
    host: the Host header to send, where the address is not the name that a reverse proxy knows
    remote: the same gateway behind a reverse proxy
    webui: the address and the API key of an Open WebUI that uses it
    """

    def __init__(
        self,
        url: str,
        key: str,
        *,
        admin_key: str | None = None,
        config: Config | None = None,
        host: str | None = None,
        remote: "Gateway | None" = None,
        webui: tuple[str, str] | None = None,
    ) -> None:
        self.url = url.rstrip("/").removesuffix("/v1")
        self.config = config
        self.remote = remote
        self.webui = webui
        self.http = _client(self.url, key, host)
        self.stranger = _client(self.url, None, host)
        self.admin = None if admin_key is None else _client(self.url, admin_key, host)
        self.openai = openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, http_client=self.http)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in (self.http, self.stranger, self.admin):
            if client is not None:
                client.close()

    def require_answer(self) -> None:
        """Raises Unreachable where nothing answers at all."""
        try:
            self.stranger.get("/health")
        except (httpx.HTTPError, httpx.InvalidURL):
            raise Unreachable(f"no gateway answers at {self.url}; start it, or give its --url") from None

    def listed(self) -> list[dict[str, Any]]:
        """What /v1/models lists."""
        return list(self.http.get("/v1/models").raise_for_status().json()["data"])

    @cached_property
    def served(self) -> Mapping[str, Served]:
        """What there is to check, by name, in order. Raises Unreachable where nobody can tell."""
        if self.config is not None:
            return {
                virtual.name: Served(
                    virtual.name, model.task, virtual.physical, virtual.view, tuple(model.capabilities)
                )
                for virtual in self.config.virtual.values()
                for model in (self.config.settings.models[virtual.physical],)
            }
        try:
            return {name: Served(name, self._task(name)) for name in [str(model["id"]) for model in self.listed()]}
        except httpx.HTTPStatusError as error:
            raise Unreachable(
                f"{self.url} answers GET /v1/models with {error.response.status_code}; is the key right?"
            ) from None
        except (httpx.HTTPError, KeyError, TypeError, ValueError):
            raise Unreachable(
                f"what answers at {self.url} lists no models; give another --url, or a --config"
            ) from None

    def _task(self, name: str) -> Task:
        """Told by how it refuses what cannot be served: a model of another task for that, the right one otherwise."""
        broken = {"file": ("speech.wav", b"")}
        if _code(self.http.post("/v1/audio/transcriptions", data={"model": name}, files=broken)) != "wrong_task":
            return "asr"
        if _code(self.http.post("/v1/audio/speech", json={"model": name, "input": ""})) != "wrong_task":
            return "tts"
        return "llm"

    def names(self, task: Task) -> list[str]:
        return [served.name for served in self.served.values() if served.task == task]

    def physicals(self, task: Task | None = None) -> list[str]:
        """Physical models that have a name; none where no configuration tells."""
        found = (each.physical for each in self.served.values() if each.physical and task in (None, each.task))
        return list(dict.fromkeys(found))

    def name_of(self, physical: str) -> Served:
        """The first name of a physical model."""
        return next(each for each in self.served.values() if each.physical == physical)

    def spokesmen(self, capability: str) -> list[str]:
        """One name for each physical model that can do this, such as `vision`: the one that thinks with measure."""

        def measure(served: Served) -> tuple[bool, bool]:
            view = served.view or View()
            return bool(view.enable_thinking), view.reasoning_effort not in (None, "medium")

        able = [each for each in self.served.values() if capability in each.capabilities]
        best = {each.physical: each for each in sorted(able, key=measure, reverse=True)}
        return [each.name for each in able if best[each.physical] is each]

    def order(self, model: str) -> int:
        """Where a model stands in the configuration, by its own name or one of clients'; what is none comes last."""
        places = [place for place, each in enumerate(self.served.values()) if model in (each.name, each.physical)]
        return places[0] if places else len(self.served)

    def vram(self) -> dict[str, Any]:
        """What GET /vram says."""
        return dict(self.http.get("/vram").raise_for_status().json())

    def loads(self) -> dict[str, int]:
        """How often each physical model was loaded so far."""
        text = self.http.get("/metrics").raise_for_status().text
        return {model: int(value) for name, model, value in _samples(text) if name == "llmux_loads_total"}

    def command(self, what: str, **body: Any) -> httpx.Response:
        """POST /vram/... with the admin's key."""
        assert self.admin is not None
        return self.admin.post(f"/vram/{what}", json=body)


def _client(url: str, key: str | None, host: str | None) -> httpx.Client:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    if host is not None:
        headers["Host"] = host

    def certified(request: httpx.Request) -> None:
        request.extensions["sni_hostname"] = host

    hooks: Any = {} if host is None else {"request": [certified]}
    return httpx.Client(base_url=url, headers=headers, timeout=_ANSWER_S, trust_env=False, event_hooks=hooks)


def _code(answer: httpx.Response) -> object:
    error = answer.json().get("error")
    return error.get("code") if isinstance(error, dict) else None


def _samples(text: str) -> Iterator[tuple[str, str, float]]:
    """Prometheus' text as (metric, model, value)."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield sample.name, sample.labels.get("model", ""), sample.value


def admin_key_given(gateway: Gateway) -> str | None:
    """A need."""
    return "it takes the master key: give --admin-key, or LLMUX_MASTER_KEY" if gateway.admin is None else None


def configuration_given(gateway: Gateway) -> str | None:
    """A need."""
    return (
        "only a configuration tells which models there are behind the names: give --config"
        if gateway.config is None
        else None
    )
