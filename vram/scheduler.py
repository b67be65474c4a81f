"""Who holds the device and who waits for it: one owner of all state, events in, effects out.

Every event is a method that takes what happened and the time, never waits, and returns what is to be done about it:

    request, release, cancel        from callers
    pin, unload                     from whoever may decide over models
    loaded, load_failed, unloaded   from whoever carries out Load and Unload
    tick                            time went by (see `wake_at_s`)
    shutdown

Whoever can read the device hands what it shows, or that it does not answer, to tick, release and the events of loads
and unloads.

A model is absent, loading, resident or unloading. It is charged against the budget from the Load until it is
unloaded. One whose load or unload takes longer than `load_s` is stuck: still charged, for its memory may be in use,
but nobody waits for it any more; if it finishes after all, it is unloaded.
"""

from collections.abc import Iterable, Mapping

from vram import outlook
from vram.device import DeviceError, Reading
from vram.effect import Effect, Refuse
from vram.model import ModelSpec, Task
from vram.outlook import DEVICE_RECHECK_S
from vram.refusal import Busy, DeviceLost, LoadFailed, NeverFits, QueueFull, Refused, Stopping
from vram.slot import Slot
from vram.snapshot import Phase, Snapshot, Wait
from vram.state import Sizes, State
from vram.turn import turn

RECHECK_S = 0.5
"""How often the device is read again while somebody waits for memory, which may be other processes'."""


class Scheduler:
    """Decides, and remembers what was decided.

    budget_bytes: what models may use together
    max_wait_s: per task, seconds after which no later arrival is served before a waiter that needs a swap
    queue_per_model, queue_total: waiting requests beyond which a newcomer is refused
    load_s: seconds after which a load or an unload is given up
    """

    def __init__(
        self,
        models: Iterable[ModelSpec],
        sizes: Sizes,
        budget_bytes: int,
        *,
        max_wait_s: Mapping[Task, float],
        queue_per_model: int,
        queue_total: int,
        load_s: float,
    ) -> None:
        self._state = State(
            models,
            sizes,
            budget_bytes,
            max_wait_s=max_wait_s,
            queue_per_model=queue_per_model,
            queue_total=queue_total,
        )
        self._slots = self._state.slots
        self._queue = self._state.queue
        self._expiring = [slot for slot in self._slots.values() if slot.spec.idle_unload_s is not None]
        self._load_s = load_s
        self._now_s = 0.0
        """When the last event happened."""
        self._ticked_s = 0.0
        self._stopping = False

    # What happens.

    def request(self, ticket: int, model: str, now_s: float) -> list[Effect]:
        """Somebody wants a lease. Tickets are unique, and a later arrival has a larger one. KeyError: no such model."""
        slot = self._slots[model]
        slot.asked(now_s, self._state.load_time_s(slot))
        refused = self.refusal(model, now_s)
        if refused is not None:
            return [Refuse(ticket, refused), *self._advance(now_s)]
        self._queue.join(ticket, slot, now_s)
        return self._advance(now_s)

    def release(
        self, ticket: int, now_s: float, reading: Reading | DeviceError | None = None, *, out_of_memory: bool = False
    ) -> list[Effect]:
        """A lease ends; out_of_memory: because there was no memory to serve it. KeyError: it is not held."""
        slot, since_s = self._state.held[ticket]
        self._state.observe(reading, serving=True)
        del self._state.held[ticket]
        slot.leases -= 1
        slot.last_used_s = now_s
        slot.used(now_s - since_s)
        if out_of_memory:
            slot.spent = True
            self._state.sizes.peaked(slot.spec, self._state.more_than_it_had(slot))
        effects = self._state.unload([slot], now_s, "reload") if slot.spent and not slot.leases else []
        return effects + self._advance(now_s)

    def cancel(self, ticket: int, now_s: float) -> list[Effect]:
        """Whoever asked is gone: waiting, just granted or refused, nothing is left of the request."""
        if ticket in self._state.held:
            return self.release(ticket, now_s)
        if ticket in self._queue:
            self._queue.leave(ticket)
        return self._advance(now_s)

    def pin(self, model: str, pinned: bool, now_s: float) -> list[Effect]:
        """From now on the model is, or is not, kept once it is resident. KeyError: no such model."""
        self._slots[model].pinned = pinned
        return self._advance(now_s)

    def unload(self, model: str, now_s: float) -> list[Effect]:
        """Somebody wants the model gone, pinned or not. Raises Busy while it is of use. KeyError: no such model."""
        slot = self._slots[model]
        if slot.stuck:
            raise Busy(model, f"hangs in {slot.phase}")
        if slot.leases:
            raise Busy(model, "serves at present")
        if slot.phase == "loading" or slot.waiters:
            raise Busy(model, "is being waited for")
        effects = self._state.unload([slot], now_s, "asked") if slot.idle else []
        return effects + self._advance(now_s)

    def loaded(
        self,
        model: str,
        now_s: float,
        reading: Reading | DeviceError | None = None,
        *,
        measured_bytes: int | None = None,
    ) -> list[Effect]:
        """A load finished; measured_bytes is what it took, where that could be told."""
        slot = self._slots[model]
        self._state.sizes.loaded(slot.spec, measured_bytes, now_s - slot.since_s)
        if measured_bytes is not None:
            self._state.charge(slot, max(measured_bytes, self._state.sizes.bytes_for(slot.spec)))
        if slot.stuck:
            slot.stuck = False
            return self._state.unload([slot], now_s, "idle") + self._advance(now_s)
        slot.phase = "resident"
        del self._state.moving[model]
        slot.last_used_s = now_s
        self._state.observe(reading)
        return self._advance(now_s)

    def load_failed(
        self,
        model: str,
        error: BaseException,
        now_s: float,
        reading: Reading | DeviceError | None = None,
        *,
        out_of_memory: bool = False,
    ) -> list[Effect]:
        """A load failed. The waiters get the error, but the first time that memory ran out for them all that is idle
        is evicted and the load is tried once more.
        """
        slot = self._slots[model]
        last_try = slot.retrying or slot.stuck
        again = out_of_memory and not last_try and bool(slot.waiters)
        self._state.vacate(slot)
        self._state.observe(reading)
        slot.retrying = again
        effects: list[Effect]
        if again:
            effects = self._state.unload([other for other in self._slots.values() if other.evictable], now_s, "room")
        elif out_of_memory and last_try:
            self._state.sizes.out_of_memory(slot.spec, slot.offered_bytes)
            effects = self._state.refuse_all(slot, outlook.out_of_memory(self._state, slot, error, now_s))
        else:
            effects = self._state.refuse_all(slot, error)
        return effects + self._advance(now_s)

    def unloaded(self, model: str, now_s: float, reading: Reading | DeviceError | None = None) -> list[Effect]:
        """An unload finished, and the memory that will come back has come back."""
        self._state.vacate(self._slots[model])
        self._state.observe(reading)
        return self._advance(now_s)

    def tick(self, now_s: float, reading: Reading | DeviceError | None = None) -> list[Effect]:
        """Time went by."""
        self._ticked_s = now_s
        self._state.observe(reading, serving=True)
        effects: list[Effect] = []
        for slot in self._state.moving.values():
            if not slot.stuck and now_s >= slot.since_s + self._load_s:
                slot.stuck = True
                error = LoadFailed(slot.spec.id, self._retry_after_s(slot, now_s))
                error.__cause__ = TimeoutError(f"{slot.phase} took longer than {self._load_s:g} s")
                effects += self._state.refuse_all(slot, error)
        for slot in self._expiring:
            until_s = slot.idle_until_s()
            if until_s is not None and now_s >= until_s:
                effects += self._state.unload([slot], now_s, "idle")
        return effects + self._advance(now_s)

    def shutdown(self, now_s: float) -> list[Effect]:
        """Grant nothing more, and unload everything: what is idle now, what is busy when it is released."""
        self._stopping = True
        refused: list[Effect] = []
        for slot in list(self._queue):
            refused += self._state.refuse_all(slot, Stopping())
        return refused + self._advance(now_s)

    # What can be asked.

    def refusal(self, model: str, now_s: float) -> Refused | None:
        """Why a request for the model would be refused at this moment; None when it would be served or queued."""
        slot = self._slots[model]
        if self._stopping:
            return Stopping()
        if slot.stuck:
            return LoadFailed(model, self._retry_after_s(slot, now_s))
        if slot.phase == "absent":
            needed_bytes = self._state.needed_bytes(slot)
            if needed_bytes > self._state.memory.budget_bytes:
                return NeverFits(model, needed_bytes, self._state.memory.budget_bytes)
        if self._state.memory.error is not None and slot.phase in ("absent", "unloading"):
            return DeviceLost(model, self._state.memory.error, DEVICE_RECHECK_S)
        full = self._queue.full(slot, now_s)
        return None if full is None else QueueFull(*full, self._retry_after_s(slot, now_s))

    def waiting(self, ticket: int, now_s: float) -> Wait | None:
        """What a ticket waits for; None when it does not wait."""
        if ticket not in self._queue:
            return None
        waits = outlook.waits(self._queue, self._state.load_time_s, now_s)
        return next(wait for each, wait in waits if each == ticket)

    def retry_after_s(self, model: str, now_s: float) -> float:
        """When it is worth asking for the model again. KeyError: no such model."""
        return self._retry_after_s(self._slots[model], now_s)

    def wake_at_s(self) -> float | None:
        """When `tick` is due if nothing happens before, counted from the last event; None: never."""
        moments = [slot.since_s + self._load_s for slot in self._state.moving.values() if not slot.stuck]
        changes = [slot.overdue_at_s for slot in self._queue if slot.phase != "resident"]
        if any(slot.phase == "absent" for slot in self._queue):
            changes += [slot.lingers_until_s for slot in self._slots.values()]
            if self._state.memory.total_bytes is not None:
                moments.append(self._ticked_s + RECHECK_S)
        moments += [change_s for change_s in changes if self._now_s < change_s]
        for slot in self._expiring:
            until_s = slot.idle_until_s()
            if until_s is not None:
                moments.append(until_s)
        if self._state.memory.error is not None:
            moments.append(self._ticked_s + DEVICE_RECHECK_S)
        return min(moments, default=None)

    @property
    def empty(self) -> bool:
        """Nothing is on the device or on its way."""
        return all(slot.phase == "absent" for slot in self._slots.values())

    @property
    def serving(self) -> bool:
        """A lease is held."""
        return bool(self._state.held)

    def phase(self, model: str) -> Phase:
        """KeyError: no such model."""
        return self._slots[model].phase

    def snapshot(self, now_s: float) -> Snapshot:
        return outlook.snapshot(self._state, now_s)

    # What follows.

    def _advance(self, now_s: float) -> list[Effect]:
        self._now_s = now_s
        if self._stopping:
            return self._state.unload([slot for slot in self._slots.values() if slot.idle], now_s, "stopping")
        return turn(self._state, now_s)

    def _retry_after_s(self, slot: Slot, now_s: float) -> float:
        return outlook.retry_after_s(slot, self._queue, self._state.load_time_s, now_s)
