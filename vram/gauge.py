"""Reads the device, and says so once when it stops answering and when it answers again."""

import logging

from vram.device import Device, DeviceError, Reading

_log = logging.getLogger(__name__)


class Gauge:
    """device: what is read"""

    __slots__ = ("_answers", "_device")

    def __init__(self, device: Device) -> None:
        self._device = device
        self._answers = True

    def read(self) -> Reading | DeviceError | None:
        """The memory as it is now, or why it cannot be told; None where nothing can be measured."""
        try:
            reading = self._device.read()
        except DeviceError as error:
            if self._answers:
                _log.error("%s: what is loaded is served, and nothing is loaded until it answers again", error)
            self._answers = False
            return error
        if not self._answers:
            _log.info("%s answers again", self._device.name)
        self._answers = True
        return reading
