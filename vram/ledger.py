"""What each model costs: predicted before its first load, measured from then on, kept between runs."""

import json
import logging
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vram.model import ModelSpec

_log = logging.getLogger(__name__)


class Ledger:
    """Bytes per model on one device.

    path: the JSON file that keeps what was measured, 0600, written atomically. One that cannot be read is set aside.
    device_name: what the figures hold for
    """

    def __init__(self, path: Path, device_name: str) -> None:
        self._path = path
        self._device_name = device_name
        self._measured = self._read()
        self._at_least: dict[str, int] = {}

    def bytes_for(self, model: ModelSpec) -> int:
        """What a load of the model will take: as measured, else as predicted, and more than what proved too little."""
        measured = self.measurement(model)
        known = self._predict(model) if measured is None else measured
        return max(known, self._at_least.get(_key(model), 0))

    def measurement(self, model: ModelSpec) -> int | None:
        """What its last measured load took, in this run or an earlier one; None when none was measured."""
        return self._measured.get(self._device_name, {}).get(_key(model))

    def measured(self, model: ModelSpec, taken_bytes: int) -> None:
        """A load was measured. Replaces every earlier belief."""
        self._at_least.pop(_key(model), None)
        if self.measurement(model) != taken_bytes:
            self._measured.setdefault(self._device_name, {})[_key(model)] = taken_bytes
            self._write()

    def out_of_memory(self, model: ModelSpec, offered_bytes: int) -> None:
        """A load failed although this much was free: it takes more. Believed until a load is measured, and not kept
        between runs, because a restart is a fresh chance.
        """
        self._at_least[_key(model)] = max(self.bytes_for(model), offered_bytes + 1)

    def _predict(self, model: ModelSpec) -> int:
        return model.estimate_bytes

    def _read(self) -> dict[str, dict[str, int]]:
        try:
            return _checked(json.loads(self._path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            aside = self._path.with_name(self._path.name + ".unreadable")
            with suppress(OSError):
                self._path.replace(aside)
            _log.warning("%s is not usable (%s): set aside, starting afresh", self._path.name, type(error).__name__)
            return {}

    def _write(self) -> None:
        """A disk that is full must not stop a model from being served."""
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)  # mkstemp's mode is 0600
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(self._measured, file, indent=2, sort_keys=True)
            Path(name).replace(self._path)
        except OSError as error:
            _log.warning("%s could not be written (%s)", self._path.name, type(error).__name__)


def _key(model: ModelSpec) -> str:
    return model.ledger_key or model.id


def _checked(data: Any) -> dict[str, dict[str, int]]:
    if not isinstance(data, Mapping):
        raise ValueError("not an object")
    for figures in data.values():
        if not isinstance(figures, Mapping) or not all(type(taken) is int and taken > 0 for taken in figures.values()):
            raise ValueError("not bytes per model")
    return {device: dict(figures) for device, figures in data.items()}
