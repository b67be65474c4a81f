"""Through a layer that goes by a name, and one that buffers: test_planted_faults.py."""

from acceptance.gateway import Gateway
from acceptance.remote import proxy_given


def test_without_a_proxy_it_is_said_how_to_name_one() -> None:
    proxy = Gateway("https://llmux.example.org", "sk-key")
    assert "--remote" in str(proxy_given(Gateway("http://gateway", "sk-key")))
    assert proxy_given(Gateway("http://gateway", "sk-key", remote=proxy)) is None
