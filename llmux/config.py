"""litellm_config.yaml, read and checked whole before anything starts.

LiteLLM's own sections are handed on as they are, but for one thing: each `llmux/...` entry of `model_list` must name a
physical model. Everything else that llmux knows is under `llmux:` and described by the classes below. A mistake is
refused with file, line and key, and with what was probably meant.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

Task = Literal["llm", "asr", "tts"]
RuntimeName = Literal["transformers", "llama.cpp", "chatterbox", "hibari"]

RUNTIMES: Mapping[Task, tuple[RuntimeName, ...]] = {
    "llm": ("transformers", "llama.cpp"),
    "asr": ("transformers",),
    "tts": ("chatterbox", "hibari"),
}

PROVIDER = "llmux"
"""The LiteLLM provider name: `model: llmux/<physical model>`."""

_UNITS = {"MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}


class ConfigError(Exception):
    """The configuration cannot be used. The message names file, line and key."""


def parse_bytes(value: object) -> int:
    """'9 GB', '512 MiB' -> bytes. A bare number is refused: it would be guesswork."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", value) if isinstance(value, str) else None
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"a size needs a number and a unit ({', '.join(_UNITS)}), such as '9 GB'; got {value!r}")
    size = int(Decimal(match[1]) * _UNITS[match[2]])
    if size == 0:
        raise ValueError("a size must be above zero")
    return size


def _parse_budget(value: object) -> int | None:
    return None if value in (None, "auto") else parse_bytes(value)


def _parse_origin(value: object) -> str:
    """'https://chat.example.org': what a browser calls the host of a page."""
    if not isinstance(value, str) or not re.fullmatch(r"https?://[^/*,\s]+", value):
        raise ValueError(f"an origin is a scheme and a host, such as https://chat.example.org; got {value!r}")
    return value


Bytes = Annotated[int, BeforeValidator(parse_bytes)]
Budget = Annotated[int | None, BeforeValidator(_parse_budget)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


S = TypeVar("S", bound=_Section)


class Model(_Section):
    """A physical model: what occupies VRAM.

    weights: folder below `models_dir`, which is also its Hugging Face repository; None where the runtime's own
        package holds them
    file, projector: GGUF files inside that folder
    estimate: bytes on the device, believed while there are no weights to look at and no load was measured
    context: tokens of prompt and answer together, per sequence
    max_concurrency: requests that the model serves at one time
    prefix_cache: bytes of RAM for copies of what was computed of prompts: conversations that gave way, and states
    pin: never evicted once it is loaded
    preload: loaded when llmux starts, in the order of priority, as long as there is room
    idle_unload_s: seconds without a request after which it is unloaded; None: only when others need the room
    """

    task: Task
    runtime: RuntimeName
    weights: str | None = None
    file: str | None = None
    projector: str | None = None
    variant: Literal["default", "multilingual", "turbo"] | None = None
    estimate: Bytes
    context: int = Field(default=32_768, ge=256)
    max_concurrency: int = Field(default=1, ge=1, le=64)
    prefix_cache: Bytes = 2 * 10**9
    pin: bool = False
    preload: bool = False
    idle_unload_s: float | None = Field(default=None, gt=0)
    default_language: str | None = None
    capabilities: tuple[Literal["vision", "tools"], ...] = ()
    gated: bool = False

    @model_validator(mode="after")
    def _fields_fit(self) -> "Model":
        if self.runtime not in RUNTIMES[self.task]:
            raise ValueError(
                f"runtime {self.runtime} does not serve task {self.task}; it takes {' or '.join(RUNTIMES[self.task])}"
            )
        if self.runtime == "llama.cpp" and not (self.weights and self.file):
            raise ValueError("runtime llama.cpp needs `weights` (the folder) and `file` (the GGUF in it)")
        if self.runtime in ("transformers", "chatterbox") and not self.weights:
            raise ValueError(f"runtime {self.runtime} needs `weights`")
        for name in (self.weights, self.file, self.projector):
            if name is not None and (Path(name).is_absolute() or ".." in Path(name).parts):
                raise ValueError("weights, file and projector are names below models_dir, without '..'")
        return self


class View(_Section):
    """How a virtual model asks its physical one: nothing here is loaded twice.

    locked: a request that asks for anything else is refused; otherwise it has the last word
    """

    enable_thinking: bool | None = None
    reasoning_effort: Literal["low", "medium", "high"] | None = None
    locked: bool = False


class MaxWait(_Section):
    """Seconds after which no later arrival is served before a waiter, per task."""

    asr: float = Field(default=1.0, ge=0)
    tts: float = Field(default=2.0, ge=0)
    llm: float = Field(default=20.0, ge=0)


class Queue(_Section):
    """Waiting requests beyond which a newcomer is refused with 503."""

    per_model: int = Field(default=64, ge=1)
    total: int = Field(default=256, ge=1)


class Limits(_Section):
    """Bounds on what one request may bring and how long it may take."""

    request_body: Bytes = 100 * 10**6
    speech_characters: int = Field(default=4096, ge=1)
    request_s: float = Field(default=3600.0, gt=0)
    load_s: float = Field(default=600.0, gt=0)
    stop_s: float = Field(default=20.0, gt=0)


class Images(_Section):
    """Images in chats: which may be fetched, and how much of them.

    hosts: names from which images may be fetched by http(s); an image in the request itself needs none
    count: images in one request
    size: bytes of one image as it comes
    pixels: width times height of one image
    """

    hosts: tuple[str, ...] = ()
    count: int = Field(default=32, ge=1)
    size: Bytes = 20 * 10**6
    pixels: int = Field(default=40_000_000, ge=1)


class Settings(_Section):
    """The `llmux:` section.

    budget: bytes of VRAM that models may use together; None ("auto" in the file) takes what the GPU has
    open_routes: paths of LiteLLM's to open beside those that llmux serves; one ending in /* opens all below it
    cors_origins: web pages of other hosts whose scripts may call, with a key of theirs, such as https://chat.example.org
    database: where virtual keys live: "embedded" is a PostgreSQL of llmux's own in state_dir, "external" the one that
        DATABASE_URL names, and "none" keeps named keys in a file
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8081, ge=0, le=65_535)
    workers: int = 1
    budget: Budget = None
    models_dir: Path = Path("models")
    state_dir: Path = Path("state")
    voices_dir: Path = Path("voices")
    database: Literal["embedded", "external", "none"] = "embedded"
    open_routes: tuple[str, ...] = ()
    cors_origins: tuple[Annotated[str, BeforeValidator(_parse_origin)], ...] = ()
    max_wait_s: MaxWait = MaxWait()
    queue: Queue = Queue()
    limits: Limits = Limits()
    images: Images = Images()
    models: dict[str, Model]

    @model_validator(mode="after")
    def _one_worker(self) -> "Settings":
        if self.workers != 1:
            raise ValueError(
                "workers must be 1: the models, the arbiter and its measurements live in one process, and a "
                "second worker would load everything a second time"
            )
        return self


@dataclass(frozen=True, slots=True)
class VirtualModel:
    """A name that clients use: a view of a physical model."""

    name: str
    physical: str
    view: View


@dataclass(frozen=True, slots=True)
class Config:
    """A checked configuration.

    litellm: LiteLLM's sections, untouched
    """

    path: Path
    settings: Settings
    virtual: Mapping[str, VirtualModel]
    litellm: Mapping[str, Any]

    def physical(self, virtual_name: str) -> Model:
        """The model behind a virtual name; KeyError where there is none."""
        return self.settings.models[self.virtual[virtual_name].physical]

    def named(self, name: str) -> VirtualModel | None:
        """The virtual model of a public name or of an alias."""
        return self.virtual.get(self.aliases.get(name, name))

    @property
    def aliases(self) -> Mapping[str, str]:
        """Names that are understood and not listed, to those that they stand for: LiteLLM's model_group_alias."""
        given = (self.litellm.get("router_settings") or {}).get("model_group_alias") or {}
        return {alias: str(to.get("model")) if isinstance(to, dict) else str(to) for alias, to in given.items()}

    @property
    def models_dir(self) -> Path:
        return self._beside(self.settings.models_dir)

    @property
    def state_dir(self) -> Path:
        return self._beside(self.settings.state_dir)

    @property
    def voices_dir(self) -> Path:
        return self._beside(self.settings.voices_dir)

    def _beside(self, path: Path) -> Path:
        """Relative paths are relative to the configuration file."""
        return (self.path.parent / path.expanduser()).resolve()


_LITELLM_SECTIONS = ("model_list", "litellm_settings", "router_settings", "general_settings")


class _Source:
    """The YAML's text with its line numbers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigError(f"{path}: no such file; give one with --config") from None
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: cannot be read ({type(error).__name__})") from None
        try:
            self._root = yaml.compose(text, Loader=yaml.SafeLoader)
            self.data = yaml.safe_load(text)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f":{mark.line + 1}" if mark else ""
            raise ConfigError(f"{path}{line}: not YAML: {getattr(error, 'problem', error)}") from None
        self._refuse_repeated_keys(self._root)
        if not isinstance(self.data, dict):
            raise ConfigError(f"{path}:1: expected sections such as model_list and llmux")

    def _refuse_repeated_keys(self, node: yaml.Node | None) -> None:
        """YAML keeps the last of two equal keys in silence, which loses the first model of that name."""
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                if key.value in seen:
                    raise ConfigError(f"{self.path}:{key.start_mark.line + 1}: {key.value}: given twice")
                seen.add(key.value)
                self._refuse_repeated_keys(value)
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                self._refuse_repeated_keys(item)

    def line(self, keys: Iterable[str | int]) -> int:
        """The line of the deepest of these nested keys that is there, from 1."""
        node, line = self._root, 1
        for key in keys:
            child = next((pair for pair in self._children(node) if pair[0] == key), None)
            if child is None:
                break
            _, line, node = child
        return line

    @staticmethod
    def _children(node: yaml.Node | None) -> Iterator[tuple[str | int, int, yaml.Node]]:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                yield key.value, key.start_mark.line + 1, value
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                yield index, value.start_mark.line + 1, value

    def error(self, keys: tuple[str | int, ...], message: str) -> ConfigError:
        name = ".".join(str(key) for key in keys)
        return ConfigError(f"{self.path}:{self.line(keys)}: {name}: {message}")


def load_config(path: Path) -> Config:
    """Read and check a configuration file. Raises ConfigError for the first mistake in it."""
    source = _Source(path)
    for section in source.data:
        if section not in (*_LITELLM_SECTIONS, "llmux"):
            raise source.error((section,), f"unknown section{_nearest(section, (*_LITELLM_SECTIONS, 'llmux'))}")
    if "llmux" not in source.data:
        raise ConfigError(f"{path}:1: llmux: section missing; it holds the physical models")
    settings = _section(source, Settings, source.data["llmux"], ("llmux",))
    virtual = {entry.name: entry for entry in _virtual_models(source, settings)}
    litellm = {name: value for name, value in source.data.items() if name != "llmux"}
    config = Config(path=path.resolve(), settings=settings, virtual=virtual, litellm=litellm)
    listed = [entry["model_name"] for entry in source.data["model_list"]]
    for alias, name in config.aliases.items():
        if name not in listed:
            at = ("router_settings", "model_group_alias", alias)
            raise source.error(at, f"{name!r} is not in model_list{_nearest(name, listed)}")
    return config


def _virtual_models(source: _Source, settings: Settings) -> Iterator[VirtualModel]:
    entries = source.data.get("model_list")
    if not isinstance(entries, list) or not entries:
        raise source.error(("model_list",), "expected a list of models, each with model_name and litellm_params")
    names: set[str] = set()
    for index, entry in enumerate(entries):
        at = ("model_list", index)
        if not isinstance(entry, dict) or not isinstance(name := entry.get("model_name"), str):
            raise source.error(at, "model_name is missing")
        params = entry.get("litellm_params")
        if not isinstance(params, dict) or not isinstance(model := params.get("model"), str):
            raise source.error((*at, "litellm_params"), f"{name} needs litellm_params.model")
        provider, _, physical = model.partition("/")
        if provider != PROVIDER:
            continue  # another provider of LiteLLM's: not ours to check
        if name in names:
            raise source.error((*at, "model_name"), f"{name} is listed twice")
        names.add(name)
        for key in params:
            if key not in ("view", "model") and difflib.get_close_matches(key, ("view", "model")):
                raise source.error((*at, "litellm_params", key), f"unknown key{_nearest(key, ('view', 'model'))}")
        if physical not in settings.models:
            raise source.error(
                (*at, "litellm_params", "model"),
                f"{name} points to {physical!r}, which is not under llmux.models{_nearest(physical, settings.models)}",
            )
        view = _section(source, View, params.get("view", {}), (*at, "litellm_params", "view"))
        yield VirtualModel(name=name, physical=physical, view=view)


def _section(source: _Source, kind: type[S], data: object, at: tuple[str | int, ...]) -> S:
    try:
        return kind.model_validate(data)
    except ValidationError as errors:
        # A misspelt key is both unknown and missing: the first says what was meant.
        error = min(errors.errors(), key=lambda each: each["type"] != "extra_forbidden")
        where = (*at, *error["loc"])
        if error["type"] == "extra_forbidden":
            known = _known_keys(kind, error["loc"])
            raise source.error(where, f"unknown key{_nearest(str(where[-1]), known)}") from None
        if error["type"] == "missing":
            raise source.error(where, "missing") from None
        raise source.error(where, error["msg"].removeprefix("Value error, ")) from None


def _known_keys(kind: type[_Section], location: tuple[str | int, ...]) -> list[str]:
    """The keys that are known where the last element of `location` was found."""
    for key in location[:-1]:
        if kind is Settings and key == "models":
            kind = Model
        elif str(key) in kind.model_fields:
            annotation = kind.model_fields[str(key)].annotation
            if isinstance(annotation, type) and issubclass(annotation, _Section):
                kind = annotation
    return list(kind.model_fields)


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}"
