"""What clients for dictation and transcription must be told of this gateway, in words."""

from collections.abc import Iterator

from llmux.catalogue import names
from llmux.config import Config
from llmux.connection import Connection

HARD_CODED = "whisper-1"
"""The model that clients ask for when they do not let anybody choose."""


def model(config: Config) -> str | None:
    """The first name that transcribes; None where there is none."""
    return next(iter(names(config, "asr")), None)


def settings(config: Config, connection: Connection, model: str, key: str) -> Iterator[str]:
    """Line by line. key: as it may be shown"""
    yield f"address   {connection.url}"
    yield f"in full   {connection.url}/audio/transcriptions, for clients that ask for the whole of it"
    yield f"key       {key}"
    yield f"model     {model}"
    if HARD_CODED not in config.aliases:
        yield ""
        yield f"Clients that insist on {HARD_CODED} need a line in {config.path.name}:"
        yield f"  router_settings: {{model_group_alias: {{{HARD_CODED}: {model}}}}}"
    yield ""
    yield "With the key in LLMUX_KEY:"
    yield f'  curl {connection.url}/audio/transcriptions -H "Authorization: Bearer $LLMUX_KEY" \\'
    yield f"    -F file=@recording.mp3 -F model={model} -F response_format=text"
    yield ""
    yield "What OpenAI's libraries are made of, with the key in OPENAI_API_KEY:"
    yield f"  OPENAI_BASE_URL={connection.url}"
    yield ""
    yield "Home Assistant, through wyoming-openai, with the key in STT_OPENAI_KEY:"
    yield f"  STT_OPENAI_URL={connection.url} STT_MODELS={model}"
