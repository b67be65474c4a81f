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
from typing import Protocol

from vram import outlook, policy
from vram.device import DeviceError, Reading
from vram.effect import Effect, Grant, Load, Refuse, Unload, UnloadReason
from vram.ledger import Figures
from vram.memory import Memory
from vram.model import ModelSpec, Task
from vram.queue import Queue
from vram.refusal import Busy, DeviceLost, LoadFailed, NeverFits, OutOfMemory, QueueFull, Refused, Stopping
from vram.slot import Slot
from vram.snapshot import ModelState, Phase, Snapshot, Wait

RECHECK_S = 0.5
"""How often the device is read again while somebody waits for memory, which may be other processes'."""

DEVICE_RECHECK_S = 5.0
"""How often a device that does not answer is asked again."""


class Sizes(Protocol):
    """What a model takes, as vram.ledger.Ledger knows it. The scheduler tells it what became of each load."""

    def bytes_for(self, model: ModelSpec) -> int: ...

    def figures(self, model: ModelSpec) -> Figures: ...

    def loaded(self, model: ModelSpec, measured_bytes: int | None, took_s: float) -> None: ...

    def peaked(self, model: ModelSpec, taken_bytes: int) -> None: ...

    def out_of_memory(self, model: ModelSpec, offered_bytes: int) -> None: ...


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
        self._slots = {spec.id: Slot(spec, max_wait_s[spec.task], spec.pinned) for spec in models}
        self._expiring = [slot for slot in self._slots.values() if slot.spec.idle_unload_s is not None]
        self._sizes = sizes
        self._memory = Memory(budget_bytes)
        self._queue = Queue(queue_per_model, queue_total)
        self._load_s = load_s
        self._held: dict[int, tuple[Slot, float]] = {}
        """What each lease holds, and since when."""
        self._moving: dict[str, Slot] = {}
        """The models that are loading or unloading, stuck or not."""
        self._now_s = 0.0
        """When the last event happened."""
        self._ticked_s = 0.0
        self._stopping = False

    # What happens.

    def request(self, ticket: int, model: str, now_s: float) -> list[Effect]:
        """Somebody wants a lease. Tickets are unique, and a later arrival has a larger one. KeyError: no such model."""
        refused = self.refusal(model, now_s)
        if refused is not None:
            return [Refuse(ticket, refused), *self._advance(now_s)]
        self._queue.join(ticket, self._slots[model], now_s)
        return self._advance(now_s)

    def release(
        self, ticket: int, now_s: float, reading: Reading | DeviceError | None = None, *, out_of_memory: bool = False
    ) -> list[Effect]:
        """A lease ends; out_of_memory: because there was no memory to serve it. KeyError: it is not held."""
        slot, since_s = self._held[ticket]
        self._observe(reading, serving=True)
        del self._held[ticket]
        slot.leases -= 1
        slot.last_used_s = now_s
        slot.used(now_s - since_s)
        if out_of_memory:
            slot.spent = True
            self._sizes.peaked(slot.spec, self._more_than_it_had(slot))
        effects = self._unload([slot], now_s, "reload") if slot.spent and not slot.leases else []
        return effects + self._advance(now_s)

    def cancel(self, ticket: int, now_s: float) -> list[Effect]:
        """Whoever asked is gone: waiting, just granted or refused, nothing is left of the request."""
        if ticket in self._held:
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
        effects = self._unload([slot], now_s, "asked") if slot.idle else []
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
        self._sizes.loaded(slot.spec, measured_bytes, now_s - slot.since_s)
        if measured_bytes is not None:
            self._charge(slot, max(measured_bytes, self._sizes.bytes_for(slot.spec)))
        if slot.stuck:
            slot.stuck = False
            return self._unload([slot], now_s, "idle") + self._advance(now_s)
        slot.phase = "resident"
        del self._moving[model]
        slot.last_used_s = now_s
        self._observe(reading)
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
        self._vacate(slot)
        self._observe(reading)
        slot.retrying = again
        effects: list[Effect]
        if again:
            effects = self._unload([other for other in self._slots.values() if other.evictable], now_s, "room")
        elif out_of_memory and last_try:
            self._sizes.out_of_memory(slot.spec, slot.offered_bytes)
            effects = self._refuse_all(slot, self._out_of_memory(slot, error, now_s))
        else:
            effects = self._refuse_all(slot, error)
        return effects + self._advance(now_s)

    def unloaded(self, model: str, now_s: float, reading: Reading | DeviceError | None = None) -> list[Effect]:
        """An unload finished, and the memory that will come back has come back."""
        self._vacate(self._slots[model])
        self._observe(reading)
        return self._advance(now_s)

    def tick(self, now_s: float, reading: Reading | DeviceError | None = None) -> list[Effect]:
        """Time went by."""
        self._ticked_s = now_s
        self._observe(reading, serving=True)
        effects: list[Effect] = []
        for slot in self._moving.values():
            if not slot.stuck and now_s >= slot.since_s + self._load_s:
                slot.stuck = True
                error = LoadFailed(slot.spec.id, self._retry_after_s(slot, now_s))
                error.__cause__ = TimeoutError(f"{slot.phase} took longer than {self._load_s:g} s")
                effects += self._refuse_all(slot, error)
        for slot in self._expiring:
            until_s = slot.idle_until_s()
            if until_s is not None and now_s >= until_s:
                effects += self._unload([slot], now_s, "idle")
        return effects + self._advance(now_s)

    def shutdown(self, now_s: float) -> list[Effect]:
        """Grant nothing more, and unload everything: what is idle now, what is busy when it is released."""
        self._stopping = True
        refused: list[Effect] = []
        for slot in list(self._queue):
            refused += self._refuse_all(slot, Stopping())
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
            needed_bytes = self._needed_bytes(slot)
            if needed_bytes > self._memory.budget_bytes:
                return NeverFits(model, needed_bytes, self._memory.budget_bytes)
        if self._memory.error is not None and slot.phase in ("absent", "unloading"):
            return DeviceLost(model, self._memory.error, DEVICE_RECHECK_S)
        full = self._queue.full(slot, now_s)
        return None if full is None else QueueFull(*full, self._retry_after_s(slot, now_s))

    def waiting(self, ticket: int, now_s: float) -> Wait | None:
        """What a ticket waits for; None when it does not wait."""
        if ticket not in self._queue:
            return None
        waits = outlook.waits(self._queue, self._load_time_s, now_s)
        return next(wait for each, wait in waits if each == ticket)

    def retry_after_s(self, model: str, now_s: float) -> float:
        """When it is worth asking for the model again. KeyError: no such model."""
        return self._retry_after_s(self._slots[model], now_s)

    def wake_at_s(self) -> float | None:
        """When `tick` is due if nothing happens before, counted from the last event; None: never."""
        moments = [slot.since_s + self._load_s for slot in self._moving.values() if not slot.stuck]
        for slot in self._queue:
            if slot.phase == "resident":
                continue
            if self._now_s < slot.overdue_at_s:
                moments.append(slot.overdue_at_s)
            if slot.phase == "absent" and self._memory.total_bytes is not None:
                moments.append(self._ticked_s + RECHECK_S)
        for slot in self._expiring:
            until_s = slot.idle_until_s()
            if until_s is not None:
                moments.append(until_s)
        if self._memory.error is not None:
            moments.append(self._ticked_s + DEVICE_RECHECK_S)
        return min(moments, default=None)

    @property
    def empty(self) -> bool:
        """Nothing is on the device or on its way."""
        return all(slot.phase == "absent" for slot in self._slots.values())

    def phase(self, model: str) -> Phase:
        """KeyError: no such model."""
        return self._slots[model].phase

    def snapshot(self, now_s: float) -> Snapshot:
        memory = self._memory
        waits = dict(outlook.waits(self._queue, self._load_time_s, now_s))
        return Snapshot(
            budget_bytes=memory.budget_bytes,
            charged_bytes=memory.charged_bytes,
            unreturned_bytes=memory.unreturned_bytes,
            others_bytes=memory.others_bytes,
            available_bytes=max(0, memory.free_bytes),
            models=tuple(self._state(slot, waits, now_s) for slot in self._slots.values()),
            device_error=memory.error,
        )

    def _state(self, slot: Slot, waits: Mapping[int, Wait], now_s: float) -> ModelState:
        figures = self._sizes.figures(slot.spec)
        return ModelState(
            id=slot.spec.id,
            task=slot.spec.task,
            phase=slot.phase,
            bytes=self._needed_bytes(slot) if slot.phase == "absent" else slot.charged_bytes,
            leases=slot.leases,
            waiting=len(slot.waiters),
            last_used_s=slot.last_used_s,
            pinned=slot.pinned,
            stuck=slot.stuck,
            predicted_bytes=figures.predicted_bytes,
            measured_bytes=figures.measured_bytes,
            load_percent=outlook.load_percent(slot, figures.load_s, now_s),
            queue=tuple(waits[ticket] for ticket in slot.waiters),
        )

    # What follows.

    def _advance(self, now_s: float) -> list[Effect]:
        """Do all that has become possible, in this order: who cannot be served, who needs no swap, who needs one."""
        self._now_s = now_s
        if self._stopping:
            return self._unload([slot for slot in self._slots.values() if slot.idle], now_s, "stopping")
        effects: list[Effect] = []
        needs = {slot.spec.id: self._needed_bytes(slot) for slot in self._queue if slot.phase == "absent"}
        if needs:
            effects += self._refuse_hopeless(needs, now_s)
        if self._queue:
            effects += self._grant(now_s)
        memory = self._memory
        if memory.charged_bytes + memory.unreturned_bytes > memory.budget_bytes:
            effects += self._return_to_budget(now_s)
        if needs:
            effects += self._swap(needs, now_s)
        return effects

    def _refuse_hopeless(self, needs: Mapping[str, int], now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        memory = self._memory
        reachable_bytes = self._reachable_bytes()
        for name, needed_bytes in needs.items():
            slot = self._slots[name]
            if needed_bytes > memory.budget_bytes:
                effects += self._refuse_all(slot, NeverFits(name, needed_bytes, memory.budget_bytes))
            elif memory.error is not None:
                effects += self._refuse_all(slot, DeviceLost(name, memory.error, DEVICE_RECHECK_S))
            elif needed_bytes > reachable_bytes and now_s >= slot.overdue_at_s:
                effects += self._refuse_all(slot, self._out_of_memory(slot, None, now_s))
        return effects

    def _grant(self, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        ready = [slot for slot in self._queue if slot.open]
        if not ready:
            return effects
        last_ticket = self._queue.last_ticket(now_s)
        for slot in ready:
            while slot.waiters and slot.open:
                ticket = slot.oldest
                if last_ticket is not None and ticket > last_ticket:
                    break
                self._queue.leave(ticket)
                self._held[ticket] = (slot, now_s)
                slot.leases += 1
                slot.last_used_s = now_s
                effects.append(Grant(ticket, slot.spec.id))
        return effects

    def _return_to_budget(self, now_s: float) -> list[Effect]:
        """A model proved larger than it was thought to be."""
        memory = self._memory
        held_bytes = memory.charged_bytes + memory.unreturned_bytes
        over_bytes = held_bytes - self._unloading_bytes() - memory.budget_bytes
        if over_bytes <= 0:
            return []
        residents = [slot.resident(None) for slot in self._slots.values() if slot.phase == "resident"]
        victims = policy.evictions(residents, over_bytes)
        if victims is None:
            victims = tuple(resident for resident in policy.eviction_order(residents) if not resident.busy)
        return self._unload([self._slots[victim.id] for victim in victims], now_s, "room")

    def _swap(self, needs: Mapping[str, int], now_s: float) -> list[Effect]:
        """Load what fits, evict for what does not. needs: what each absent model with waiters takes.

        `free` is there now; `promised` is what will be free, once all that was decided has happened, for those who
        come later in the order; `spare` is what each of those who come earlier can do without even then. When
        somebody has to wait for a busy model, whoever comes after may load into what stays free beside it, but evict
        nothing: what is idle is part of that somebody's room. A second try after running out of memory waits until
        all that was evicted for it is gone.
        """
        waiters = [slot.waiter(now_s) for slot in self._queue if slot.phase == "absent"]
        effects: list[Effect] = []
        free = self._memory.free_bytes
        promised = spare = free + self._unloading_bytes()
        may_evict = True
        for waiter in policy.serving_order(waiters):
            slot = self._slots[waiter.model]
            needed_bytes = needs[waiter.model]
            if needed_bytes > promised:
                if not may_evict:
                    continue
                residents = [
                    other.resident(waiter)
                    for other in self._slots.values()
                    if other.phase in ("resident", "loading") and not other.stuck
                ]
                plan = policy.make_room(slot.spec.task, needed_bytes - promised, residents, overdue=waiter.overdue)
                if plan is None:
                    continue
                may_evict = plan.now
                if plan.now:
                    effects += self._unload([self._slots[victim.id] for victim in plan.victims], now_s, "room")
                promised += sum(victim.bytes for victim in plan.victims)
            elif needed_bytes <= min(free, spare) and not (slot.retrying and self._unloading_bytes()):
                slot.offered_bytes = min(free, spare)
                effects.append(self._load(slot, needed_bytes, now_s))
                free -= needed_bytes
                spare -= needed_bytes
            promised -= needed_bytes
            spare = min(spare, promised)
        return effects

    def _observe(self, reading: Reading | DeviceError | None, *, serving: bool = False) -> None:
        """serving: nothing but a model that serves can have changed what is held; if just one does, it has grown."""
        sole = None
        if serving and self._held:
            slot, _ = next(iter(self._held.values()))
            sole = slot if slot.leases == len(self._held) else None
        grown_bytes = self._memory.observe(reading, moving=bool(self._moving), serving=sole is not None)
        if sole is not None and grown_bytes:
            # A second try may be charged far more than the model takes, which must not be remembered.
            known_bytes = min(sole.charged_bytes, self._sizes.bytes_for(sole.spec))
            self._sizes.peaked(sole.spec, known_bytes + grown_bytes)
            self._charge(sole, sole.charged_bytes + grown_bytes)

    def _load(self, slot: Slot, needed_bytes: int, now_s: float) -> Load:
        slot.phase = "loading"
        slot.since_s = now_s
        self._moving[slot.spec.id] = slot
        self._charge(slot, needed_bytes)
        return Load(slot.spec.id)

    def _unload(self, slots: Iterable[Slot], now_s: float, reason: UnloadReason) -> list[Effect]:
        effects: list[Effect] = []
        for slot in slots:
            slot.phase = "unloading"
            slot.since_s = now_s
            self._moving[slot.spec.id] = slot
            effects.append(Unload(slot.spec.id, reason))
        return effects

    def _vacate(self, slot: Slot) -> None:
        slot.phase = "absent"
        slot.stuck = slot.spent = slot.retrying = False
        del self._moving[slot.spec.id]
        self._charge(slot, 0)

    def _charge(self, slot: Slot, taken_bytes: int) -> None:
        self._memory.charged_bytes += taken_bytes - slot.charged_bytes
        slot.charged_bytes = taken_bytes

    def _refuse_all(self, slot: Slot, error: BaseException) -> list[Effect]:
        return [Refuse(ticket, error) for ticket in self._queue.empty(slot)]

    def _out_of_memory(self, slot: Slot, cause: BaseException | None, now_s: float) -> Refused:
        """Running out of memory with the whole budget to itself means that the model can never fit."""
        needed_bytes = self._needed_bytes(slot)
        error: Refused
        if needed_bytes > self._memory.budget_bytes:
            error = NeverFits(slot.spec.id, needed_bytes, self._memory.budget_bytes)
        else:
            error = OutOfMemory(slot.spec.id, self._retry_after_s(slot, now_s))
        error.__cause__ = cause
        return error

    def _needed_bytes(self, slot: Slot) -> int:
        """A second try after running out of memory gets more than the first, or again all that can be had."""
        needed_bytes = self._sizes.bytes_for(slot.spec)
        if not slot.retrying:
            return needed_bytes
        more_bytes = max(needed_bytes, slot.offered_bytes + 1)
        return min(more_bytes, max(self._reachable_bytes(), slot.offered_bytes))

    def _more_than_it_had(self, slot: Slot) -> int:
        """After it ran out of memory while it served: the room of others too or, had it all to itself, a tenth more."""
        more_bytes = slot.charged_bytes + max(0, self._memory.free_bytes) + 1
        if more_bytes > self._memory.capacity_bytes:
            more_bytes = min(slot.charged_bytes * 11 // 10, self._memory.budget_bytes)
        return more_bytes

    def _reachable_bytes(self) -> int:
        """What one model could get if all that can leave left."""
        kept = [slot.charged_bytes for slot in self._slots.values() if slot.pinned or slot.stuck]
        return self._memory.capacity_bytes - sum(kept)

    def _unloading_bytes(self) -> int:
        return sum(slot.charged_bytes for slot in self._moving.values() if slot.phase == "unloading" and not slot.stuck)

    def _load_time_s(self, slot: Slot) -> float | None:
        return self._sizes.figures(slot.spec).load_s

    def _retry_after_s(self, slot: Slot, now_s: float) -> float:
        return outlook.retry_after_s(slot, self._queue, self._load_time_s, now_s)
