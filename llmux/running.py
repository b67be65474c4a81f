"""The gateway that runs, as the commands ask it: with its master key, at the address where it listens."""

from typing import Any

import httpx

from llmux.config import Config
from llmux.secrets import master_key

_ANSWER_S = 10.0


class NoAnswer(Exception):
    """No gateway does what is asked. The message says why, and what to do."""


def listening_url(config: Config, port: int | None = None) -> str:
    """Where this machine finds the gateway of a configuration, or the one that was told another port."""
    settings = config.settings
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{port or settings.port}"


class RunningGateway:
    """url: where it listens; key: its master key"""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self._key = key

    @classmethod
    def of(cls, config: Config, port: int | None = None) -> "RunningGateway":
        """Where this configuration's gateway listens, or on another port. ValueError: its key cannot be used."""
        return cls(listening_url(config, port), master_key(config.state_dir))

    def get(self, path: str, **query: str | int | bool) -> Any:
        """What it answers. Raises NoAnswer."""
        return self._ask("GET", path, params=query)

    def post(self, path: str, body: Any, *, answer_s: float = _ANSWER_S) -> Any:
        """What it answers, within answer_s seconds. Raises NoAnswer."""
        return self._ask("POST", path, answer_s, json=body)

    def _ask(self, method: str, path: str, answer_s: float = _ANSWER_S, **more: Any) -> Any:
        headers = {"Authorization": f"Bearer {self._key}"}
        try:
            answer = httpx.request(method, self.url + path, headers=headers, timeout=answer_s, trust_env=False, **more)
        except httpx.TimeoutException:
            raise NoAnswer(
                f"the gateway at {self.url} took longer than {answer_s:.0f} s to answer; its log may say why"
            ) from None
        except httpx.HTTPError:
            raise NoAnswer(f"no gateway answers at {self.url}; start it: python -m llmux serve") from None
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            raise NoAnswer(
                f"the gateway at {self.url} has another master key; set LLMUX_MASTER_KEY, or give its --config"
            )
        try:
            said = answer.json()
            if answer.is_success:
                return said
            message = said["error"]["message"]
        except (ValueError, KeyError, TypeError):
            raise NoAnswer(
                f"what answers at {self.url} is no llmux gateway (status {answer.status_code}); see --port"
            ) from None
        raise NoAnswer(f"the gateway refuses: {message}")
