from collections.abc import Callable

import httpx
import pytest

from acceptance.check import Case, Each, Failed, Skipped, cases, check, conclude, expect
from acceptance.gateway import Gateway
from llmux.config import load_config
from tests.gateway import ROOT


@pytest.fixture
def gateway() -> Gateway:
    return Gateway("http://gateway", "sk-key", config=load_config(ROOT / "demo" / "litellm_config.yaml"))


def raising(error: Exception) -> Callable[..., str]:
    def run(gateway: Gateway) -> str:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "verdict", "detail"),
    [
        (Failed("it sings"), "fail", "it sings"),
        (Skipped("no GPU"), "skipped", "no GPU"),
        (httpx.ConnectError("refused"), "fail", "refused"),
        (KeyError("choices"), "fail", "the answer has another form (KeyError: 'choices')"),
    ],
)
def test_whatever_the_gateway_does_is_a_verdict(gateway: Gateway, error: Exception, verdict: str, detail: str) -> None:
    result = conclude(Case("function", check("dances")(raising(error))), gateway)
    assert (result.verdict, result.detail) == (verdict, detail)


def test_a_fault_of_the_program_is_no_verdict(gateway: Gateway) -> None:
    with pytest.raises(ZeroDivisionError):
        conclude(Case("function", check("dances")(raising(ZeroDivisionError()))), gateway)


def test_a_check_passes_with_what_it_saw(gateway: Gateway) -> None:
    result = conclude(Case("vram", check("dances")(lambda gateway, model: f"{model} waltzes"), "ballerina"), gateway)
    assert (result.phase, result.check, result.model) == ("vram", "dances", "ballerina")
    assert (result.verdict, result.detail) == ("pass", "ballerina waltzes")


def test_what_is_lacking_is_the_reason_why_it_is_skipped(gateway: Gateway) -> None:
    needy = check("dances", needs=(lambda gateway: None, lambda gateway: "there is no floor"))(raising(Failed("")))
    (case,) = cases("function", [needy], gateway)
    assert conclude(case, gateway).detail == "there is no floor"


def test_all_that_concerns_one_model_is_done_together(gateway: Gateway) -> None:
    two = Each(lambda gateway: ["Whisper-Base", "SmolLM2-135M"], "")
    nobody = Each(lambda gateway: [], "nobody dances")
    checks = [
        check(name, each=each)(raising(Failed("")))
        for name, each in [("stands", None), ("sings", two), ("dances", two), ("flies", nobody), ("ends", None)]
    ]
    assert [(case.check.name, case.model, case.skip) for case in cases("function", checks, gateway)] == [
        ("stands", "", ""),
        ("sings", "SmolLM2-135M", ""),
        ("dances", "SmolLM2-135M", ""),
        ("sings", "Whisper-Base", ""),
        ("dances", "Whisper-Base", ""),
        ("flies", "", "nobody dances"),
        ("ends", "", ""),
    ]


def test_expecting_says_what_is_wrong() -> None:
    expect([1], "not told")
    with pytest.raises(Failed, match="told"):
        expect([], "told")
