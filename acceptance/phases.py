"""The phases of acceptance, in order, and how they are gone through."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from acceptance import chat, integration, performance, refusals, remote, sound, vram
from acceptance.check import Case, Check, Phase, Result, cases, conclude
from acceptance.gateway import Gateway

PHASES: Mapping[Phase, Sequence[Check]] = {
    "integration": integration.CHECKS,
    "function": (*refusals.CHECKS, *chat.CHECKS, *sound.CHECKS),
    "vram": vram.CHECKS,
    "performance": performance.CHECKS,
    "remote": remote.CHECKS,
}


def run(gateway: Gateway, phases: Iterable[Phase], begins: Callable[[Case], None]) -> Iterator[Result]:
    """Make each check. begins: told of it beforehand. Raises Unreachable where there is no gateway at all."""
    for phase in phases:
        for case in cases(phase, PHASES[phase], gateway):
            begins(case)
            yield conclude(case, gateway)
