"""All that is known of the device, its models and whoever waits for them, and the steps that change it."""

from collections.abc import Iterable, Mapping
from typing import Protocol

from vram.device import DeviceError, Reading
from vram.effect import Effect, Load, Refuse, Unload, UnloadReason
from vram.ledger import Figures
from vram.memory import Memory
from vram.model import ModelSpec, Task
from vram.queue import Queue
from vram.slot import Slot


class Sizes(Protocol):
    """What a model takes, as vram.ledger.Ledger knows it. The scheduler tells it what became of each load."""

    def bytes_for(self, model: ModelSpec) -> int: ...

    def figures(self, model: ModelSpec) -> Figures: ...

    def loaded(self, model: ModelSpec, measured_bytes: int | None, took_s: float) -> None: ...

    def peaked(self, model: ModelSpec, taken_bytes: int) -> None: ...

    def out_of_memory(self, model: ModelSpec, offered_bytes: int) -> None: ...


class State:
    """slots: every model's, by id

    memory: the device's, of which each slot is charged its part
    held: what each lease holds, and since when
    moving: the models that are loading or unloading, stuck or not
    """

    __slots__ = ("held", "memory", "moving", "queue", "sizes", "slots")

    def __init__(
        self,
        models: Iterable[ModelSpec],
        sizes: Sizes,
        budget_bytes: int,
        *,
        max_wait_s: Mapping[Task, float],
        queue_per_model: int,
        queue_total: int,
    ) -> None:
        self.slots = {spec.id: Slot(spec, max_wait_s[spec.task], spec.pinned) for spec in models}
        self.sizes = sizes
        self.memory = Memory(budget_bytes)
        self.queue = Queue(queue_per_model, queue_total)
        self.held: dict[int, tuple[Slot, float]] = {}
        self.moving: dict[str, Slot] = {}

    # Steps.

    def load(self, slot: Slot, needed_bytes: int, now_s: float) -> Load:
        slot.phase = "loading"
        slot.since_s = now_s
        self.moving[slot.spec.id] = slot
        self.charge(slot, needed_bytes)
        return Load(slot.spec.id)

    def unload(self, slots: Iterable[Slot], now_s: float, reason: UnloadReason) -> list[Effect]:
        effects: list[Effect] = []
        for slot in slots:
            slot.phase = "unloading"
            slot.since_s = now_s
            self.moving[slot.spec.id] = slot
            effects.append(Unload(slot.spec.id, reason))
        return effects

    def vacate(self, slot: Slot) -> None:
        slot.phase = "absent"
        slot.stuck = slot.spent = slot.retrying = False
        del self.moving[slot.spec.id]
        self.charge(slot, 0)

    def charge(self, slot: Slot, taken_bytes: int) -> None:
        self.memory.charged_bytes += taken_bytes - slot.charged_bytes
        slot.charged_bytes = taken_bytes

    def refuse_all(self, slot: Slot, error: BaseException) -> list[Effect]:
        return [Refuse(ticket, error) for ticket in self.queue.empty(slot)]

    def observe(self, reading: Reading | DeviceError | None, *, serving: bool = False) -> None:
        """serving: nothing but a model that serves can have changed what is held; if just one does, it has grown."""
        sole = None
        if serving and self.held:
            slot, _ = next(iter(self.held.values()))
            sole = slot if slot.leases == len(self.held) else None
        grown_bytes = self.memory.observe(reading, moving=bool(self.moving), serving=sole is not None)
        if sole is not None and grown_bytes:
            # A second try may be charged far more than the model takes, which must not be remembered.
            known_bytes = min(sole.charged_bytes, self.sizes.bytes_for(sole.spec))
            self.sizes.peaked(sole.spec, known_bytes + grown_bytes)
            self.charge(sole, sole.charged_bytes + grown_bytes)

    # What follows from it.

    @property
    def reachable_bytes(self) -> int:
        """What one model could get if all that can leave left."""
        kept = [slot.charged_bytes for slot in self.slots.values() if slot.pinned or slot.stuck]
        return self.memory.capacity_bytes - sum(kept)

    @property
    def unloading_bytes(self) -> int:
        """What will be free once all unloads under way are over."""
        return sum(slot.charged_bytes for slot in self.moving.values() if slot.phase == "unloading" and not slot.stuck)

    def load_time_s(self, slot: Slot) -> float | None:
        return self.sizes.figures(slot.spec).load_s

    def needed_bytes(self, slot: Slot) -> int:
        """What its load takes. A second try after running out of memory gets more than the first, or again all that
        can be had.
        """
        needed_bytes = self.sizes.bytes_for(slot.spec)
        if not slot.retrying:
            return needed_bytes
        more_bytes = max(needed_bytes, slot.offered_bytes + 1)
        return min(more_bytes, max(self.reachable_bytes, slot.offered_bytes))

    def more_than_it_had(self, slot: Slot) -> int:
        """After it ran out of memory while it served: the room of others too or, where none of them may leave, a tenth
        more, as far as that can be had. To want what cannot be had would keep it from serving anybody.
        """
        most_bytes = self.reachable_bytes + (slot.charged_bytes if slot.pinned or slot.stuck else 0)
        more_bytes = slot.charged_bytes + max(0, self.memory.free_bytes) + 1
        if more_bytes > most_bytes:
            more_bytes = max(slot.charged_bytes, min(slot.charged_bytes * 11 // 10, most_bytes))
        return more_bytes
