"""An Open WebUI that runs, set up through its own API by an administrator's token."""

from collections.abc import Callable, Sequence
from typing import Any

import httpx

from llmux.open_webui import Form, Setup

_ANSWER_S = 30.0

_FORMS: Sequence[tuple[str, str, Callable[[Setup, Form], Form]]] = (
    ("/openai/config", "/openai/config/update", Setup.connections),
    ("/api/v1/audio/config", "/api/v1/audio/config/update", Setup.audio),
    ("/api/v1/tasks/config", "/api/v1/tasks/config/update", Setup.tasks),
    ("/api/v1/configs/models", "/api/v1/configs/models", Setup.models),
)
"""Where a form is read, where it is sent back, and what changes in it. Whatever else it holds stays."""


class OpenWebUIError(Exception):
    """Open WebUI could not be set up. The message says why, and what to do."""


class OpenWebUI:
    """url: where it is; token: an administrator's, from Settings, Account"""

    def __init__(self, url: str, token: str, transport: httpx.BaseTransport | None = None) -> None:
        self._url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(headers=headers, timeout=_ANSWER_S, trust_env=False, transport=transport)

    def set_up(self, setup: Setup) -> Sequence[str]:
        """Tell it everything, and return the models that it lists from then on. Raises OpenWebUIError."""
        try:
            with self._http:
                forms = [(write, change(setup, self._ask("GET", read))) for read, write, change in _FORMS]
                for path, form in forms:  # nothing is changed before all of it could be read
                    self._ask("POST", path, json=form)
                return [model["id"] for model in self._ask("GET", "/api/models", params={"refresh": "true"})["data"]]
        except (AttributeError, KeyError, TypeError):  # other forms than were read before
            raise OpenWebUIError(self._unknown("its forms are others")) from None

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        try:
            answer = self._http.request(method, self._url + path, **more)
        except (httpx.HTTPError, httpx.InvalidURL):
            raise OpenWebUIError(f"no Open WebUI answers at {self._url}") from None
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise OpenWebUIError("Open WebUI refuses the token: it must be an administrator's, and not expired")
        try:
            return answer.raise_for_status().json()
        except (httpx.HTTPStatusError, ValueError):
            raise OpenWebUIError(self._unknown(f"{method} {path}: status {answer.status_code}")) from None

    def _unknown(self, why: str) -> str:
        return f"what answers at {self._url} is no Open WebUI of a version that is known here ({why})"
