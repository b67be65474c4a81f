"""What clients on other machines need, through Traefik or another reverse proxy."""

from acceptance import chat, sound
from acceptance.check import Each, check
from acceptance.gateway import Gateway
from acceptance.integration import judge_health, judge_names

FIRST_CHAT = Each(lambda gateway: gateway.names("llm")[:1], chat.CHATS.none)


def proxy_given(gateway: Gateway) -> str | None:
    """A need."""
    return None if gateway.remote else "no reverse proxy is named: give --remote, and --host where it goes by that"


def _proxied(gateway: Gateway) -> Gateway:
    assert gateway.remote is not None
    return gateway.remote


@check("is healthy through the proxy", needs=(proxy_given,))
def healthy(gateway: Gateway) -> str:
    return judge_health(_proxied(gateway).stranger.get("/health"))


@check("lists its models through the proxy", needs=(proxy_given,))
def lists(gateway: Gateway) -> str:
    return judge_names(_proxied(gateway).listed(), gateway.config)


@check("transcribes through the proxy", needs=(proxy_given,), each=sound.EARS)
def transcribes(gateway: Gateway, name: str) -> str:
    return sound.judge_words(sound.transcript(_proxied(gateway), name, "en"), "en")


@check("streams through the proxy as it writes", needs=(proxy_given,), each=FIRST_CHAT)
def streams(gateway: Gateway, name: str) -> str:
    chat.ask(_proxied(gateway), name, chat.HELLO, 1)  # a load is no part of how its words come
    content_type, events = chat.stream(_proxied(gateway), name, chat.COUNT, chat.WORDS)
    return chat.judge_stream(content_type, events, name)


CHECKS = (healthy, lists, transcribes, streams)
