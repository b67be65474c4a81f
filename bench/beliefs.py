"""A ledger in memory: what vram.ledger.Ledger keeps in a file, without the file."""

from vram.ledger import Figures
from vram.model import ModelSpec


class Beliefs:
    """What each model is thought to take, in bytes: its estimate, then what was told."""

    def __init__(self) -> None:
        self._loaded_bytes: dict[str, int] = {}
        self._peak_bytes: dict[str, int] = {}
        self._at_least: dict[str, int] = {}
        self._load_s: dict[str, float] = {}

    def bytes_for(self, model: ModelSpec) -> int:
        known = self._measured(model) or model.estimate_bytes
        return max(known, self._at_least.get(model.id, 0))

    def figures(self, model: ModelSpec) -> Figures:
        return Figures(model.estimate_bytes, self._measured(model), self._load_s.get(model.id))

    def loaded(self, model: ModelSpec, measured_bytes: int | None, took_s: float) -> None:
        self._load_s[model.id] = took_s
        if measured_bytes is not None:
            self._loaded_bytes[model.id] = measured_bytes
            self._at_least.pop(model.id, None)

    def peaked(self, model: ModelSpec, taken_bytes: int) -> None:
        self._peak_bytes[model.id] = max(taken_bytes, self._peak_bytes.get(model.id, 0))

    def out_of_memory(self, model: ModelSpec, offered_bytes: int) -> None:
        self._at_least[model.id] = max(self.bytes_for(model), offered_bytes + 1)

    def _measured(self, model: ModelSpec) -> int | None:
        return max(self._loaded_bytes.get(model.id, 0), self._peak_bytes.get(model.id, 0)) or None
