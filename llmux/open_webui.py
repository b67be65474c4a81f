"""What Open WebUI must be told of this gateway: as its environment, and as the forms of its own API.

The names are Open WebUI's, read in its versions 0.8.12 and 0.12.4.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmux.catalogue import names, quickest
from llmux.config import Config
from llmux.connection import Connection

_TASK_TOKENS = 512
_VOICE = "default"

_METADATA = {"capabilities": {"builtin_tools": False, "usage": True}}
"""No tools of its own, which 0.12 otherwise sends with every message (6,400 tokens); and it asks what a chat used."""

_OPENAI = "https://api.openai.com/v1"

Form = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Setup:
    """shown: the names that it lists; empty means all that the key may use
    chat: the model of a new chat; chosen: whether somebody named it, so that it takes the place of another
    task_model: which model writes titles, tags and follow-up questions; empty: the one that is chatted with
    task_parameters: what such a request says beside its messages
    listens, speaks: the models for speech; None where there is none
    """

    connection: Connection
    shown: tuple[str, ...] = ()
    chat: str = ""
    chosen: bool = False
    task_model: str = ""
    task_parameters: Mapping[str, Any] = field(default_factory=dict)
    listens: str | None = None
    speaks: str | None = None

    @classmethod
    def of(
        cls, config: Config, connection: Connection, *, model: str | None, task_model: str | None, hide_speech: bool
    ) -> "Setup":
        """model: of a new chat, if not the first one. task_model: None leaves it to `default_task_model`."""
        chats, listening, speaking = (names(config, task) for task in ("llm", "asr", "tts"))
        listed = (entry["model_name"] for entry in config.litellm["model_list"])
        return cls(
            connection=connection,
            shown=tuple(name for name in listed if name not in (*listening, *speaking)) if hide_speech else (),
            chat=model or next(iter(chats), ""),
            chosen=model is not None,
            task_model=default_task_model(config) if task_model is None else task_model,
            task_parameters=task_parameters(config),
            listens=next(iter(listening), None),
            speaks=next(iter(speaking), None),
        )

    def environment(self) -> Mapping[str, str]:
        """Environment variables for an Open WebUI that starts for the first time."""
        url, key = self.connection.url, self.connection.key
        told = {"OPENAI_API_BASE_URL": url, "OPENAI_API_KEY": key}
        if self.shown:
            told["OPENAI_API_CONFIGS"] = _compact({"0": {"enable": True, "model_ids": self.shown}})
        told |= {
            "DEFAULT_MODELS": self.chat,
            "DEFAULT_MODEL_METADATA": _compact(_METADATA),
            "TASK_MODEL_EXTERNAL": self.task_model,
            "TASK_MODEL_PARAMS": _compact(self.task_parameters),
        }
        for name, model in (("STT", self.listens), ("TTS", self.speaks)):
            if model is not None:
                told |= {
                    f"AUDIO_{name}_ENGINE": "openai",
                    f"AUDIO_{name}_OPENAI_API_BASE_URL": url,
                    f"AUDIO_{name}_OPENAI_API_KEY": key,
                    f"AUDIO_{name}_MODEL": model,
                }
        if self.speaks is not None:
            told["AUDIO_TTS_VOICE"] = _VOICE
        return told

    def connections(self, form: Form) -> Form:
        """Its connections with this one among them: that of the same address if there is one.

        OpenAI's own address without a key, which a new Open WebUI begins with, makes room.
        """
        urls, keys = list(form["OPENAI_API_BASE_URLS"]), list(form["OPENAI_API_KEYS"])
        configs = dict(form["OPENAI_API_CONFIGS"])
        if urls == [_OPENAI] and not any(keys):
            urls, keys, configs = [], [], {}
        if self.connection.url not in urls:
            urls.append(self.connection.url)
        at = urls.index(self.connection.url)
        keys += [""] * (len(urls) - len(keys))
        keys[at] = self.connection.key
        configs[str(at)] = {**configs.get(str(at), {}), "enable": True, "model_ids": list(self.shown)}
        return {
            **form,
            "ENABLE_OPENAI_API": True,
            "OPENAI_API_BASE_URLS": urls,
            "OPENAI_API_KEYS": keys,
            "OPENAI_API_CONFIGS": configs,
        }

    def audio(self, form: Form) -> Form:
        """Its engines for speech; one for which there is no model stays as it is."""
        engine = {
            "ENGINE": "openai",
            "OPENAI_API_BASE_URL": self.connection.url,
            "OPENAI_API_KEY": self.connection.key,
        }
        told = dict(form)
        if self.listens is not None:
            told["stt"] = {**form["stt"], **engine, "MODEL": self.listens}
        if self.speaks is not None:
            told["tts"] = {**form["tts"], **engine, "MODEL": self.speaks, "VOICE": _VOICE}
        return told

    def tasks(self, form: Form) -> Form:
        """Who writes titles, tags and follow-up questions. 0.8 ignores the parameters."""
        return {**form, "TASK_MODEL_EXTERNAL": self.task_model, "TASK_MODEL_PARAMS": dict(self.task_parameters)}

    def models(self, form: Form) -> Form:
        """What holds for every model. The model of a new chat stays where nobody named another one."""
        metadata = form.get("DEFAULT_MODEL_METADATA") or {}
        capabilities = {**(metadata.get("capabilities") or {}), **_METADATA["capabilities"]}
        return {
            **form,
            "DEFAULT_MODELS": self.chat if self.chosen else form["DEFAULT_MODELS"] or self.chat,
            "DEFAULT_MODEL_METADATA": {**metadata, "capabilities": capabilities},
        }


def default_task_model(config: Config) -> str:
    """The quickest view where all chat models are views of one physical model; else empty, for the model of the chat.

    Any one name would swap models after each answer of every other physical model.
    """
    chats = names(config, "llm")
    return quickest(config, chats[0]) if len({config.virtual[name].physical for name in chats}) == 1 else ""


def task_parameters(config: Config) -> Mapping[str, Any]:
    """Short and without thoughts, as far as the views know of thinking and none is locked to it."""
    views = [config.virtual[name].view for name in names(config, "llm")]
    told: dict[str, Any] = {"max_tokens": _TASK_TOKENS}
    thinking = [view for view in views if view.enable_thinking]
    if thinking and not any(view.locked for view in thinking):
        told["chat_template_kwargs"] = {"enable_thinking": False}
    efforts = [view for view in views if view.reasoning_effort]
    if efforts and not any(view.locked and view.reasoning_effort != "low" for view in efforts):
        told["reasoning_effort"] = "low"
    return told


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
