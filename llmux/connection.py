"""How a client reaches this gateway: the address, and the client's own key."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx

from llmux.client_keys import client_key
from llmux.config import Config
from llmux.running import listening_url

_ANSWER_S = 10.0


@dataclass(frozen=True, slots=True)
class Connection:
    """url: OpenAI's base address, which ends in /v1"""

    url: str
    key: str = field(repr=False)

    @classmethod
    def of(cls, config: Config, client: str, url: str | None, key_variable: str | None) -> "Connection":
        """For one of client_keys.CLIENTS. Raises ValueError where there is no key for it, or no such address.

        url: where the client finds the gateway, if not where it listens
        key_variable: the environment variable that holds the key, if not the one of the first start
        """
        if key_variable is None:
            key = client_key(config.state_dir, client)
        else:
            key = os.environ.get(key_variable, "")
            if not key:
                raise ValueError(f"the environment variable {key_variable} is not set")
        address = (url or listening_url(config)).rstrip("/")
        if re.match(r"https?://[^/\s]+", address) is None:
            raise ValueError(f"{address} is no address, such as https://llm.example.org")
        return cls(address if address.endswith("/v1") else f"{address}/v1", key)

    def models(self) -> Sequence[str] | None:
        """What the key may use; None where nobody answers. Raises ValueError where the key or the address is wrong."""
        headers = {"Authorization": f"Bearer {self.key}"}
        try:
            answer = httpx.get(f"{self.url}/models", headers=headers, timeout=_ANSWER_S, trust_env=False)
        except (httpx.HTTPError, httpx.InvalidURL):
            return None
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise ValueError(
                f"{self.url} refuses this key: it was revoked, or belongs to another gateway. Make another with "
                "`python -m llmux keys create`, and name the variable that holds it: --key-variable LLMUX_KEY"
            )
        try:
            return [model["id"] for model in answer.raise_for_status().json()["data"]]
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            raise ValueError(
                f"what answers at {self.url} is no llmux gateway (status {answer.status_code}); see --url"
            ) from None
