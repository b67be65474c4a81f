"""What each model costs: predicted before its first load, measured from then on, kept between runs."""

import json
import logging
import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vram.model import ModelSpec
from vram.prediction import predict

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known of one model.

    predicted_bytes: what the files say that it takes, or the estimate where they say nothing
    measured_bytes: the most that the device was seen to hold for it; None until measured
    load_s: how long its last load took, or would take at the speed of others' loads; None when none was timed
    """

    predicted_bytes: int
    measured_bytes: int | None
    load_s: float | None


@dataclass(frozen=True, slots=True)
class _Measured:
    """loaded_bytes: after its last measured load; peak_bytes: the most while it served. None: not seen yet."""

    loaded_bytes: int | None = None
    peak_bytes: int | None = None
    load_s: float | None = None

    @property
    def bytes(self) -> int | None:
        return max(self.loaded_bytes or 0, self.peak_bytes or 0) or None


class Ledger:
    """Bytes and load times per model on one device.

    path: the JSON file that keeps what was measured, 0600, written atomically. One that cannot be read is set aside.
    device_name: what the figures hold for
    """

    def __init__(self, path: Path, device_name: str) -> None:
        self._path = path
        self._device_name = device_name
        self._kept = self._read()
        self._here = self._kept.setdefault(device_name, {})
        self._at_least: dict[str, int] = {}
        self._predicted: dict[str, int] = {}

    def predict(self, models: Iterable[ModelSpec]) -> None:
        """Look at the files of those models that were not yet seen: their headers are read, which may take a while."""
        for model in models:
            if model.files is not None and _key(model) not in self._predicted:
                prediction = predict(model.files)
                if prediction is not None:
                    self._predicted[_key(model)] = prediction.bytes

    def bytes_for(self, model: ModelSpec) -> int:
        """What the model takes: as measured, else as predicted, and more than what proved too little."""
        key = _key(model)
        known = self._here[key].bytes if key in self._here else None
        if known is None:
            known = self._predicted.get(key, model.estimate_bytes)
        return max(known, self._at_least[key]) if key in self._at_least else known

    def figures(self, model: ModelSpec) -> Figures:
        """What was predicted, and what was measured, in this run or an earlier one."""
        measured = self._here.get(_key(model), _Measured())
        return Figures(
            predicted_bytes=self._predicted.get(_key(model), model.estimate_bytes),
            measured_bytes=measured.bytes,
            load_s=self._load_s(model) if measured.load_s is None else measured.load_s,
        )

    def loaded(self, model: ModelSpec, measured_bytes: int | None, took_s: float) -> None:
        """A load took this long, and this much where that could be told. Replaces earlier beliefs about loads."""
        measured = replace(self._here.get(_key(model), _Measured()), load_s=took_s)
        if measured_bytes is not None:
            self._at_least.pop(_key(model), None)
            measured = replace(measured, loaded_bytes=measured_bytes)
        self._keep(model, measured)

    def peaked(self, model: ModelSpec, taken_bytes: int) -> None:
        """It was seen to hold this much while it served, or to need as much."""
        measured = self._here.get(_key(model), _Measured())
        if taken_bytes > (measured.peak_bytes or 0):
            self._keep(model, replace(measured, peak_bytes=taken_bytes))

    def out_of_memory(self, model: ModelSpec, offered_bytes: int) -> None:
        """A load failed although this much was free: it takes more. Believed until a load is measured, and not kept
        between runs, because a restart is a fresh chance.
        """
        self._at_least[_key(model)] = max(self.bytes_for(model), offered_bytes + 1)

    def _load_s(self, model: ModelSpec) -> float | None:
        """At the mean speed of the loads that were measured on this device."""
        timed = [(each.load_s, each.loaded_bytes) for each in self._here.values() if each.load_s and each.loaded_bytes]
        if not timed:
            return None
        s_per_byte = sum(load_s for load_s, _ in timed) / sum(loaded_bytes for _, loaded_bytes in timed)
        return self.bytes_for(model) * s_per_byte

    def _keep(self, model: ModelSpec, measured: _Measured) -> None:
        if self._here.get(_key(model)) != measured:
            self._here[_key(model)] = measured
            self._write()

    def _read(self) -> dict[str, dict[str, _Measured]]:
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
        kept = {
            device: {key: asdict(measured) for key, measured in figures.items()}
            for device, figures in self._kept.items()
        }
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)  # mkstemp's mode is 0600
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(kept, file, indent=2, sort_keys=True)
            Path(name).replace(self._path)
        except OSError as error:
            _log.warning("%s could not be written (%s)", self._path.name, type(error).__name__)


def _key(model: ModelSpec) -> str:
    return model.ledger_key or model.id


def _checked(data: Any) -> dict[str, dict[str, _Measured]]:
    if not isinstance(data, Mapping):
        raise ValueError("not an object")
    return {device: _checked_figures(figures) for device, figures in data.items()}


def _checked_figures(figures: Any) -> dict[str, _Measured]:
    if not isinstance(figures, Mapping):
        raise ValueError("not models")
    checked = {}
    for key, values in figures.items():
        if not isinstance(values, Mapping) or set(values) != {"loaded_bytes", "peak_bytes", "load_s"}:
            raise ValueError("not figures of a model")
        sizes = (values["loaded_bytes"], values["peak_bytes"])
        if not all(size is None or (type(size) is int and size > 0) for size in sizes):
            raise ValueError("not bytes")
        load_s = values["load_s"]
        if not (load_s is None or (type(load_s) in (int, float) and load_s >= 0)):
            raise ValueError("not seconds")
        checked[key] = _Measured(*sizes, load_s)
    return checked
