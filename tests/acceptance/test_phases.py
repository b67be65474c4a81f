from collections import Counter

from acceptance.check import Case
from acceptance.gateway import Gateway
from acceptance.phases import PHASES, run
from llmux.cli_acceptance import PHASES as NAMED
from llmux.config import load_config
from tests.gateway import ROOT


def test_the_command_line_names_them_all_in_order() -> None:
    assert list(PHASES) == list(NAMED)


def test_no_two_checks_have_one_name() -> None:
    assert [
        name for name, count in Counter(check.name for each in PHASES.values() for check in each).items() if count > 1
    ] == []


def test_each_check_is_told_before_it_is_made() -> None:
    begun: list[Case] = []
    gateway = Gateway("http://gateway", "sk-key", config=load_config(ROOT / "litellm_config.yaml"))
    results = list(run(gateway, ["performance", "remote"], begun.append))
    assert [case.check.name for case in begun] == [result.check for result in results]
    assert {result.verdict for result in results} == {"skipped"}
