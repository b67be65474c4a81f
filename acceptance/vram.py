"""The rules of the arbiter, live: models are loaded by hand, one is asked for as clients do, and who left is seen."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from acceptance import chat, sound
from acceptance.check import Check, Each, Failed, Skipped, check, expect
from acceptance.eviction import ROWS, Row, Scene, Sized, scene
from acceptance.gateway import Gateway, admin_key_given, configuration_given
from acceptance.refusals import judge_refusal

NEEDS = (admin_key_given, configuration_given)

_ROUNDING_GB = 0.002
"""GET /vram rounds each size to a thousandth."""


def sizes(vram: Mapping[str, Any], only: Iterable[str]) -> list[Sized]:
    """What each model takes: as it was measured, or as it is predicted where nothing was. vram: GET /vram"""
    models = vram["models"]
    return [
        Sized(name, models[name]["type"], models[name]["measured_gb"] or models[name]["predicted_gb"]) for name in only
    ]


def resident(vram: Mapping[str, Any]) -> list[str]:
    """Models that are in VRAM."""
    return [name for name, model in vram["models"].items() if model["state"] in ("resident", "busy")]


def judge_budget(vram: Mapping[str, Any], configured_bytes: int | None) -> str:
    """Raises Failed unless what is loaded stays within the budget, and this within the configured one."""
    if configured_bytes is not None:
        most_gb = configured_bytes / 1e9
        expect(
            vram["budget_gb"] <= most_gb + _ROUNDING_GB,
            f"its budget is {vram['budget_gb']} GB, and the configuration's {most_gb:g} GB",
        )
    taken_gb = sum(model["used_gb"] for model in vram["models"].values())
    expect(
        taken_gb <= vram["budget_gb"] + _ROUNDING_GB * len(vram["models"]),
        f"{taken_gb:.3f} GB are loaded, with a budget of {vram['budget_gb']} GB",
    )
    return f"{taken_gb:.2f} of {vram['budget_gb']:.2f} GB loaded"


def judge_eviction(shown: Scene, after: Sequence[str]) -> str:
    """Raises Failed unless those who should leave did, and nobody else. after: what is in VRAM then"""
    expect(shown.asked.id in after, f"{shown.asked.id} was asked for and is not loaded")
    for place, model in enumerate(shown.loaded):
        stayed = model.id in after
        expect(not (stayed and place in shown.leave), f"{model.id} should have left for {shown.asked.id}")
        expect(stayed or place in shown.leave, f"{model.id} should have stayed beside {shown.asked.id}")
    beside = " + ".join(f"{model.id} {model.gb:.2f}" for model in shown.loaded)
    left = ", ".join(shown.loaded[place].id for place in sorted(shown.leave)) or "nobody"
    return f"{beside}; {shown.asked.id} {shown.asked.gb:.2f} is asked for; {left} leaves"


def judge_loads(before: Mapping[str, int], after: Mapping[str, int], expected: Mapping[str, int]) -> None:
    """Raises Failed unless just these models were loaded, so many times. before, after: loads so far"""
    grown = {model: after[model] - before.get(model, 0) for model in after if after[model] != before.get(model, 0)}
    said = ", ".join(f"{model} {count} times" for model, count in grown.items()) or "nobody"
    expect(grown == dict(expected), f"{said} was loaded, and should have been: {dict(expected) or 'nobody'}")


def _empty(gateway: Gateway) -> dict[str, Any]:
    """Take everything off. Returns what GET /vram says then."""
    for model in resident(gateway.vram()):
        _command(gateway, "unload", model)
    return gateway.vram()


def _command(gateway: Gateway, what: str, model: str) -> None:
    answer = gateway.command(what, model=model)
    if answer.status_code != 200:
        why = judge_refusal(answer, answer.status_code)
        raise Failed(f"POST /vram/{what} {model} is refused with {answer.status_code}: {why}")


def _use(gateway: Gateway, physical: str, name: str | None = None) -> None:
    """Ask for a model as clients do."""
    served = gateway.name_of(physical)
    match served.task:
        case "llm":
            gateway.openai.chat.completions.create(model=name or served.name, messages=chat.HELLO, max_tokens=1)
        case "asr":
            sound.transcript(gateway, served.name, "en")
        case "tts":
            gateway.openai.audio.speech.create(model=served.name, voice="default", input=sound.SENTENCE)


def _loadable(gateway: Gateway) -> list[str]:
    return [name for name in gateway.physicals() if name in gateway.vram()["models"]]


ALL = Each(_loadable, "there is no model")
TWO_NAMES = Each(
    lambda gateway: [physical for physical in gateway.physicals() if len(_names(gateway, physical)) > 1],
    "no model has two names",
)
FIRST = Each(lambda gateway: gateway.physicals()[:1], "there is no model")
FIRST_CHAT = Each(lambda gateway: gateway.physicals("llm")[:1], chat.CHATS.none)


def _names(gateway: Gateway, physical: str) -> list[str]:
    return [each.name for each in gateway.served.values() if each.physical == physical]


@check("loads within the budget", each=ALL, needs=NEEDS)
def loads(gateway: Gateway, model: str) -> str:
    """Also where all sizes are measured, by which the rows below are told."""
    _command(gateway, "load", model)
    vram = gateway.vram()
    facts = vram["models"][model]
    measured = "not measured" if facts["measured_gb"] is None else f"measured {facts['measured_gb']:.2f}"
    config = gateway.config
    within = judge_budget(vram, config.settings.budget if config else None)
    return f"predicted {facts['predicted_gb']:.2f} GB, {measured}; {within}"


def _shows(row: Row) -> Check:
    @check(row.title, needs=NEEDS)
    def shows(gateway: Gateway) -> str:
        vram = _empty(gateway)
        models = sizes(vram, _loadable(gateway))
        shown = scene(row, models, vram["free_gb"])
        if shown is None:
            loaded = " + ".join(row.loaded)
            listed = ", ".join(f"{model.id} {model.gb:.2f}" for model in models)
            raise Skipped(
                f"the sizes cannot show it in {vram['free_gb']:.2f} GB ({loaded}, then {row.asked}): {listed}"
            )
        for model in shown.loaded:
            _command(gateway, "load", model.id)
        missing = [model.id for model in shown.loaded if model.id not in resident(gateway.vram())]
        expect(not missing, f"{', '.join(missing)} left before anybody was asked for")
        _use(gateway, shown.asked.id)
        after = gateway.vram()
        judge_budget(after, None)
        return judge_eviction(shown, resident(after))

    return shows


@check("moves nothing for a model that is loaded", each=FIRST, needs=NEEDS)
def stays(gateway: Gateway, model: str) -> str:
    _command(gateway, "load", model)
    before, there = gateway.loads(), resident(gateway.vram())
    _use(gateway, model)
    judge_loads(before, gateway.loads(), {})
    expect(resident(gateway.vram()) == there, "something left")
    return ""


@check("loads nothing for another name of the same model", each=TWO_NAMES, needs=NEEDS)
def views(gateway: Gateway, model: str) -> str:
    _command(gateway, "load", model)
    before = gateway.loads()
    names = _names(gateway, model)
    for name in names:
        _use(gateway, model, name)
    judge_loads(before, gateway.loads(), {})
    return f"{len(names)} names"


@check("loads once for two first requests", each=FIRST_CHAT, needs=NEEDS)
def together(gateway: Gateway, model: str) -> str:
    _empty(gateway)
    before = gateway.loads()
    with ThreadPoolExecutor(2) as pool:
        for asked in [pool.submit(_use, gateway, model) for _ in range(2)]:
            asked.result()
    judge_loads(before, gateway.loads(), {model: 1})
    return "both served"


@check("keeps a model that serves, and says when to come back", each=FIRST_CHAT, needs=NEEDS)
def keeps_busy(gateway: Gateway, model: str) -> str:
    body = {"model": gateway.name_of(model).name, "messages": chat.COUNT, "max_tokens": 128, "temperature": 0}
    with gateway.http.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as answer:
        lines = answer.iter_lines()
        expect(next(lines, None) is not None, "the stream ends before it begins")
        refused = gateway.command("unload", model=model)
        rest = list(lines)
    judge_refusal(refused, 503, "model_busy")
    after = refused.headers.get("retry-after", "")
    expect(after.isdigit() and int(after) > 0, f"it is refused for now, and Retry-After is {after or 'missing'}")
    expect("data: [DONE]" in rest and "event: error" not in rest, "what it served did not end well")
    return f"Retry-After {after}"


CHECKS = (loads, *map(_shows, ROWS), stays, views, together, keeps_busy)
