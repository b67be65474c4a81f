"""Two gateways are compared by what was measured of each."""

from pathlib import Path

from bench.gateway import Gateway, scripted
from bench.keys import REQUESTS, Side, quantile, table, verdicts


def side(folder: Path, start_s: float, latency_s: float) -> Side:
    return Side(
        Gateway(folder, scripted("none")),
        starts_s=[99.0, start_s, start_s],
        latencies_s={name: [latency_s] * 10 for name in REQUESTS},
        rates=[50.0],
        cpu_s={"gateway": 0.01},
        resident={"gateway": 400_000_000},
    )


def test_a_quantile_is_a_value_that_was_measured() -> None:
    values = [3.0, 1.0, 2.0, 4.0]
    assert [quantile(values, share) for share in (0, 0.5, 0.95, 1)] == [1, 3, 4, 4]


def test_goals_that_are_met(tmp_path: Path) -> None:
    found = list(verdicts(side(tmp_path, 18.0, 0.020), side(tmp_path, 10.0, 0.0101)))
    assert [is_met for _, is_met in found] == [True, True, True]


def test_goals_that_are_missed(tmp_path: Path) -> None:
    found = list(verdicts(side(tmp_path, 18.1, 0.0202), side(tmp_path, 10.0, 0.010)))
    assert [is_met for _, is_met in found] == [False, False, False]
    assert found[0][0] == "a start takes 8.1 s longer (at most 8)"


def test_what_only_one_of_them_has_is_a_dash_of_the_other(tmp_path: Path) -> None:
    embedded = side(tmp_path, 18.0, 0.02)
    embedded.cpu_s = {"gateway": 0.01, "engine": 0.002}
    printed = list(table(embedded, side(tmp_path, 10.0, 0.01)))
    assert f"{'engine, CPU ms a request':34}{'2.0':>10}{'-':>10}" in printed
    assert f"{'gateway, MB':34}{'400.0':>10}{'400.0':>10}" in printed
