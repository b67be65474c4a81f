"""Each peer decides as its source says."""

import pytest

from bench.peers import Fifo, LlamaSwap, Ollama, Peer
from vram.effect import Grant, Load, Unload
from vram.model import ModelSpec

MODELS = (ModelSpec("a", "llm", 9), ModelSpec("b", "llm", 9), ModelSpec("s", "tts", 2))


def peers() -> list[Peer]:
    return [Fifo(MODELS, 16), LlamaSwap(MODELS, 16), Ollama(MODELS, 16, None)]


def loaded(peer: Peer, *models: str) -> None:
    for number, model in enumerate(models):
        assert peer.request(-number - 1, model, number) == [Load(model)]
        peer.loaded(model, number)
        peer.release(-number - 1, number)


@pytest.mark.parametrize("peer", peers(), ids=lambda peer: type(peer).__name__)
def test_a_swap_unloads_loads_and_grants(peer: Peer) -> None:
    loaded(peer, "a")
    assert peer.request(1, "b", 5) == [Unload("a", "room")]
    assert peer.unloaded("a", 6) == [Load("b")]
    assert peer.loaded("b", 7) == [Grant(1, "b")]


@pytest.mark.parametrize("peer", peers(), ids=lambda peer: type(peer).__name__)
def test_a_busy_model_stays(peer: Peer) -> None:
    loaded(peer, "a")
    assert peer.request(1, "a", 5) == [Grant(1, "a")]
    assert peer.request(2, "b", 6) == []
    assert peer.release(1, 7) == [Unload("a", "room")]


@pytest.mark.parametrize("peer", peers(), ids=lambda peer: type(peer).__name__)
def test_the_least_recently_used_leaves_first_and_no_more_than_needed(peer: Peer) -> None:
    loaded(peer, "s", "a")
    assert peer.request(1, "s", 5) == [Grant(1, "s")]
    peer.release(1, 6)
    assert peer.request(2, "b", 7) == [Unload("a", "room")]


def test_fifo_lets_nobody_overtake_a_waiter_that_needs_a_swap() -> None:
    fifo = Fifo(MODELS, 16)
    loaded(fifo, "a")
    fifo.request(1, "a", 5)
    fifo.request(2, "b", 6)
    fifo.request(3, "a", 7)
    assert fifo.release(1, 8) == [Unload("a", "room")]


def test_llama_swap_and_ollama_serve_the_loaded_model_first_however_long_others_wait() -> None:
    for peer in (LlamaSwap(MODELS, 16), Ollama(MODELS, 16, None)):
        loaded(peer, "a")
        peer.request(1, "a", 5)
        peer.request(2, "b", 6)
        peer.request(3, "a", 7)
        assert peer.release(1, 1000) == [Grant(3, "a")]


def test_llama_swap_swaps_past_one_who_waits_for_a_busy_model() -> None:
    peer = LlamaSwap(MODELS, 16)
    loaded(peer, "a")
    peer.request(1, "a", 5)
    peer.request(2, "b", 6)
    assert peer.request(3, "s", 7) == [Load("s")]


def test_ollama_swaps_for_one_at_a_time() -> None:
    peer = Ollama(MODELS, 16, None)
    loaded(peer, "a")
    peer.request(1, "a", 5)
    peer.request(2, "b", 6)
    assert peer.request(3, "s", 7) == []


def test_ollama_unloads_what_nobody_used_for_its_keep_alive() -> None:
    peer = Ollama(MODELS, 16, keep_alive_s=300)
    loaded(peer, "s", "a")
    assert peer.wake_at_s() == 300
    assert peer.tick(300) == [Unload("s", "idle")]
