"""What a check is: a function with a name, whom it is about, what it needs, and how it ends."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

import httpx
import openai

from acceptance.gateway import Gateway

Phase = Literal["integration", "function", "vram", "performance", "remote"]
Verdict = Literal["pass", "fail", "skipped"]

Need = Callable[[Gateway], str | None]
"""Why a check cannot be made here; None where it can."""


class Failed(Exception):
    """The gateway does not do what it should. The message says what it does instead."""


class Skipped(Exception):
    """It cannot be seen here whether it does. The message says why."""


def expect(holds: object, otherwise: str) -> None:
    """Raises Failed, saying what is wrong, unless it holds."""
    if not holds:
        raise Failed(otherwise)


@dataclass(frozen=True, slots=True)
class Each:
    """Whom a check is made for, one after the other.

    none: why it is skipped where there is nobody
    """

    of: Callable[[Gateway], Sequence[str]]
    none: str


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that a gateway should do.

    name: what it should do, as the end of a sentence about the gateway or the model
    run: given the gateway (and the model), returns what is worth telling; raises Failed or Skipped
    """

    name: str
    run: Callable[..., str]
    each: Each | None
    needs: Sequence[Need]


def check(name: str, *, each: Each | None = None, needs: Sequence[Need] = ()) -> Callable[[Callable[..., str]], Check]:
    """Makes a check of a function."""
    return lambda run: Check(name, run, each, needs)


@dataclass(frozen=True, slots=True)
class Result:
    """How a check ended.

    model: the one that it was about; empty where it was about the gateway
    detail: what was seen, what is wrong, or why it was skipped
    """

    phase: Phase
    check: str
    model: str
    verdict: Verdict
    detail: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Case:
    """A check to be made of one model, or of the gateway; skip: why it is not even tried."""

    phase: Phase
    check: Check
    model: str = ""
    skip: str = ""


def cases(phase: Phase, checks: Sequence[Check], gateway: Gateway) -> list[Case]:
    """What is to be done, in order; all that concerns one model together, because each change of models is a load."""
    found: list[Case] = []
    for of_models, neighbours in groupby(checks, key=lambda check: check.each is not None):
        made = [case for check in neighbours for case in _cases(phase, check, gateway)]
        found += sorted(made, key=lambda case: gateway.order(case.model)) if of_models else made
    return found


def _cases(phase: Phase, check: Check, gateway: Gateway) -> list[Case]:
    lacking = next((why for need in check.needs if (why := need(gateway)) is not None), None)
    if lacking is not None:
        return [Case(phase, check, skip=lacking)]
    if check.each is None:
        return [Case(phase, check)]
    return [Case(phase, check, model) for model in check.each.of(gateway)] or [Case(phase, check, skip=check.each.none)]


def conclude(case: Case, gateway: Gateway) -> Result:
    """Make the check. Whatever the gateway does wrong is a failure of the check, never of this program."""
    begun_s = time.monotonic()
    verdict: Verdict = "skipped"
    detail = case.skip
    if not detail:
        try:
            detail, verdict = case.check.run(gateway, *([case.model] if case.model else [])), "pass"
        except Skipped as reason:
            detail = str(reason)
        except Exception as error:
            detail, verdict = _told(error), "fail"
            if not isinstance(error, _OF_THE_GATEWAY):
                raise
    return Result(case.phase, case.check.name, case.model, verdict, detail, time.monotonic() - begun_s)


_MALFORMED = (KeyError, IndexError, TypeError, ValueError, AttributeError)
"""What reading an answer of another form comes to."""

_OF_THE_GATEWAY = (Failed, openai.OpenAIError, httpx.HTTPError, *_MALFORMED)


def _told(error: Exception) -> str:
    if isinstance(error, openai.APIStatusError):
        body: Any = error.body
        message = body.get("message") if isinstance(body, dict) else None
        return f"refused with {error.status_code}: {message or error.response.text[:200]}"
    if isinstance(error, _MALFORMED):
        return f"the answer has another form ({type(error).__name__}: {error})"
    return str(error) or type(error).__name__
