"""The device is read, and its silence is reported once."""

import logging

import pytest

from vram.device import DeviceError, Reading
from vram.gauge import Gauge


class Card:
    name = "card"
    budget_bytes = 16

    def __init__(self) -> None:
        self.shows: Reading | DeviceError | None = Reading(16, 4, 4)

    def read(self) -> Reading | None:
        if isinstance(self.shows, DeviceError):
            raise self.shows
        return self.shows


def test_it_hands_on_what_the_device_shows() -> None:
    card = Card()
    assert Gauge(card).read() == Reading(16, 4, 4)
    card.shows = None
    assert Gauge(card).read() is None


def test_a_silent_device_is_a_value_and_a_line_in_the_log_when_it_begins_and_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    card = Card()
    gauge, lost = Gauge(card), DeviceError("card is lost")

    card.shows = lost
    assert [gauge.read(), gauge.read()] == [lost, lost]
    card.shows = Reading(16, 0, 0)
    assert [gauge.read(), gauge.read()] == [Reading(16, 0, 0)] * 2

    assert [record.getMessage() for record in caplog.records] == [
        "card is lost: what is loaded is served, and nothing is loaded until it answers again",
        "card answers again",
    ]
