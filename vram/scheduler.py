"""Who holds the device and who waits for it: one owner of all state, events in, effects out.

Every event is a method that takes what happened and the time, never waits, and returns what is to be done about it:

    request, release, cancel        from callers
    loaded, load_failed, unloaded   from whoever carries out Load and Unload
    tick                            time went by (see `wake_at_s`)
    shutdown

Whoever can read the device hands what it shows to tick and to the events of loads and unloads.

A model is absent, loading, resident or unloading. It is charged against the budget from the Load until it is
unloaded. One whose load or unload takes longer than `load_s` is stuck: still charged, for its memory may be in use,
but nobody waits for it any more; if it finishes after all, it is unloaded.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from vram import policy
from vram.device import Reading
from vram.effect import Effect, Grant, Load, Refuse, Unload
from vram.model import ModelSpec, Task
from vram.refusal import LoadFailed, NeverFits, OutOfMemory, QueueFull, Refused, Stopping
from vram.snapshot import ModelState, Phase, Snapshot

RECHECK_S = 0.5
"""How often the device is read again while somebody waits for memory, which may be other processes'."""

_RETRY_AFTER_S = 5.0
"""What a refused client is told while no load of the model has been timed."""


class Sizes(Protocol):
    """What a model will take, as vram.ledger.Ledger knows it."""

    def bytes_for(self, model: ModelSpec) -> int: ...

    def out_of_memory(self, model: ModelSpec, offered_bytes: int) -> None: ...


@dataclass(slots=True)
class _Model:
    """waiters: ticket -> when it arrived, oldest first. offered_bytes: what was free for the load under way."""

    spec: ModelSpec
    max_wait_s: float
    phase: Phase = "absent"
    since_s: float = 0.0
    charged_bytes: int = 0
    offered_bytes: int = 0
    leases: int = 0
    waiters: dict[int, float] = field(default_factory=dict)
    last_used_s: float = 0.0
    load_took_s: float | None = None
    retrying: bool = False
    stuck: bool = False

    @property
    def moving(self) -> bool:
        return self.phase in ("loading", "unloading")

    def oldest(self) -> tuple[int, float]:
        return next(iter(self.waiters.items()))

    def overdue(self, now_s: float) -> bool:
        return now_s >= self.oldest()[1] + self.max_wait_s

    def waiter(self, now_s: float) -> policy.Waiter:
        return policy.Waiter(self.spec.id, self.spec.task, self.oldest()[0], self.overdue(now_s))


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
        self._models = {spec.id: _Model(spec, max_wait_s[spec.task]) for spec in models}
        self._sizes = sizes
        self._budget_bytes = budget_bytes
        self._queue_per_model = queue_per_model
        self._queue_total = queue_total
        self._load_s = load_s
        self._held: dict[int, _Model] = {}
        self._tickets: dict[int, _Model] = {}
        """Whose queue a waiting ticket is in."""
        self._queues: dict[str, _Model] = {}
        """The models that somebody waits for."""
        self._charged_bytes = 0
        self._others_bytes = 0
        self._unreturned_bytes = 0
        self._total_bytes: int | None = None
        self._ticked_s = 0.0
        self._stopping = False

    def request(self, ticket: int, model: str, now_s: float) -> list[Effect]:
        """Somebody wants a lease. Tickets are unique, and a later arrival has a larger one. KeyError: no such model."""
        wanted = self._models[model]
        refused = self.refusal(model, now_s)
        if refused is not None:
            return [Refuse(ticket, refused)]
        wanted.waiters[ticket] = now_s
        self._tickets[ticket] = wanted
        self._queues[model] = wanted
        return self._advance(now_s)

    def refusal(self, model: str, now_s: float) -> Refused | None:
        """Why a request for the model would be refused at this moment; None when it would be served or queued."""
        wanted = self._models[model]
        if self._stopping:
            return Stopping()
        if wanted.stuck:
            return LoadFailed(model, self._retry_after_s(wanted))
        if wanted.phase == "absent" and self._needed_bytes(wanted) > self._budget_bytes:
            return NeverFits(model, self._needed_bytes(wanted), self._budget_bytes)
        waiting = len(wanted.waiters)
        if waiting >= self._queue_per_model:
            return QueueFull(waiting, self._queue_per_model, self._retry_after_s(wanted))
        if len(self._tickets) >= self._queue_total and not self._free_at_once(wanted, now_s):
            return QueueFull(len(self._tickets), self._queue_total, self._retry_after_s(wanted))
        return None

    def release(self, ticket: int, now_s: float) -> list[Effect]:
        """A lease ends. KeyError: it is not held."""
        model = self._held.pop(ticket)
        model.leases -= 1
        model.last_used_s = now_s
        return self._advance(now_s)

    def cancel(self, ticket: int, now_s: float) -> list[Effect]:
        """Whoever asked is gone: waiting, just granted or refused, nothing is left of the request."""
        if ticket in self._held:
            return self.release(ticket, now_s)
        if ticket not in self._tickets:
            return []
        self._dequeue(ticket)
        return self._advance(now_s)

    def loaded(
        self, model: str, now_s: float, reading: Reading | None = None, *, measured_bytes: int | None = None
    ) -> list[Effect]:
        """A load finished; measured_bytes is what it took, where that could be told."""
        arrived = self._models[model]
        if measured_bytes is not None:
            self._charge(arrived, measured_bytes)
        if arrived.stuck:
            arrived.stuck = False
            return self._unload([arrived], now_s)
        arrived.phase = "resident"
        arrived.retrying = False
        arrived.load_took_s = now_s - arrived.since_s
        arrived.last_used_s = now_s
        self._observe(reading)
        return self._advance(now_s)

    def load_failed(
        self,
        model: str,
        error: BaseException,
        now_s: float,
        reading: Reading | None = None,
        *,
        out_of_memory: bool = False,
    ) -> list[Effect]:
        """A load failed. The waiters get the error, but the first time that memory ran out all that is idle is
        evicted and the load is tried once more.
        """
        failed = self._models[model]
        again = out_of_memory and not failed.retrying and not failed.stuck
        self._vacate(failed)
        self._observe(reading)
        failed.retrying = again
        effects: list[Effect]
        if again:
            effects = self._unload([other for other in self._models.values() if self._evictable(other)], now_s)
        elif out_of_memory:
            self._sizes.out_of_memory(failed.spec, failed.offered_bytes)
            effects = self._refuse_all(failed, self._out_of_memory(failed, error))
        else:
            effects = self._refuse_all(failed, error)
        return effects + self._advance(now_s)

    def unloaded(self, model: str, now_s: float, reading: Reading | None = None) -> list[Effect]:
        """An unload finished, and the memory that will come back has come back."""
        self._vacate(self._models[model])
        self._observe(reading)
        return self._advance(now_s)

    def tick(self, now_s: float, reading: Reading | None = None) -> list[Effect]:
        """Time went by."""
        self._ticked_s = now_s
        self._observe(reading)
        effects: list[Effect] = []
        for model in self._models.values():
            if model.moving and not model.stuck and now_s >= model.since_s + self._load_s:
                model.stuck = True
                error = LoadFailed(model.spec.id, self._retry_after_s(model))
                error.__cause__ = TimeoutError(f"{model.phase} took longer than {self._load_s:g} s")
                effects += self._refuse_all(model, error)
        return effects + self._advance(now_s)

    def shutdown(self, now_s: float) -> list[Effect]:
        """Grant nothing more, and unload everything: what is idle now, what is busy when it is released."""
        self._stopping = True
        refused: list[Effect] = []
        for model in list(self._queues.values()):
            refused += self._refuse_all(model, Stopping())
        return refused + self._advance(now_s)

    def wake_at_s(self, now_s: float) -> float | None:
        """When `tick` is due next if nothing happens before; None: never."""
        moments = [model.since_s + self._load_s for model in self._models.values() if model.moving and not model.stuck]
        for model in self._queues.values():
            if model.phase == "resident":
                continue
            if not model.overdue(now_s):
                moments.append(model.oldest()[1] + model.max_wait_s)
            if model.phase == "absent" and self._total_bytes is not None:
                moments.append(self._ticked_s + RECHECK_S)
        return min(moments, default=None)

    @property
    def empty(self) -> bool:
        """Nothing is on the device or on its way."""
        return all(model.phase == "absent" for model in self._models.values())

    def phase(self, model: str) -> Phase:
        """KeyError: no such model."""
        return self._models[model].phase

    def snapshot(self) -> Snapshot:
        return Snapshot(
            budget_bytes=self._budget_bytes,
            charged_bytes=self._charged_bytes,
            unreturned_bytes=self._unreturned_bytes,
            others_bytes=self._others_bytes,
            available_bytes=max(0, self._capacity_bytes() - self._charged_bytes),
            models=tuple(
                ModelState(
                    id=model.spec.id,
                    task=model.spec.task,
                    phase=model.phase,
                    bytes=self._needed_bytes(model) if model.phase == "absent" else model.charged_bytes,
                    leases=model.leases,
                    waiting=len(model.waiters),
                    last_used_s=model.last_used_s,
                    pinned=model.spec.pinned,
                    stuck=model.stuck,
                )
                for model in self._models.values()
            ),
        )

    def _advance(self, now_s: float) -> list[Effect]:
        """Do all that has become possible, in this order: who cannot be served, who needs no swap, who needs one."""
        if self._stopping:
            return self._unload([model for model in self._models.values() if self._idle(model)], now_s)
        effects: list[Effect] = []
        if self._queues:
            effects += self._refuse_hopeless(now_s)
            effects += self._grant(now_s)
        if self._charged_bytes + self._unreturned_bytes > self._budget_bytes:
            effects += self._return_to_budget(now_s)
        if self._queues:
            effects += self._swap(now_s)
        return effects

    def _refuse_hopeless(self, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        for model in list(self._queues.values()):
            if model.phase != "absent":
                continue
            needed_bytes = self._needed_bytes(model)
            if needed_bytes > self._budget_bytes:
                error = NeverFits(model.spec.id, needed_bytes, self._budget_bytes)
                effects += self._refuse_all(model, error)
            elif needed_bytes > self._reachable_bytes() and model.overdue(now_s):
                effects += self._refuse_all(model, self._out_of_memory(model, None))
        return effects

    def _grant(self, now_s: float) -> list[Effect]:
        last_ticket = self._last_ticket(now_s)
        effects: list[Effect] = []
        for model in list(self._queues.values()):
            if model.phase != "resident":
                continue
            while model.waiters and model.leases < model.spec.max_concurrency:
                ticket, _ = model.oldest()
                if last_ticket is not None and ticket > last_ticket:
                    break
                self._dequeue(ticket)
                self._held[ticket] = model
                model.leases += 1
                model.last_used_s = now_s
                effects.append(Grant(ticket, model.spec.id))
        return effects

    def _return_to_budget(self, now_s: float) -> list[Effect]:
        """A model proved larger than it was thought to be."""
        over_bytes = self._charged_bytes + self._unreturned_bytes - self._unloading_bytes() - self._budget_bytes
        if over_bytes <= 0:
            return []
        residents = [self._resident(model, None) for model in self._models.values() if model.phase == "resident"]
        victims = policy.evictions(residents, over_bytes)
        if victims is None:
            victims = tuple(resident for resident in policy.eviction_order(residents) if not resident.busy)
        return self._unload([self._models[victim.id] for victim in victims], now_s)

    def _swap(self, now_s: float) -> list[Effect]:
        """Load what fits, evict for what does not.

        `free` is there now; `promised` is what will be free, once all that was decided has happened, for those who
        come later in the order. When somebody has to wait for a busy model, whoever comes after may load into what
        stays free beside it, but evict nothing: what is idle is part of that somebody's room. A second try after
        running out of memory waits until all that was evicted for it is gone.
        """
        waiters = [model.waiter(now_s) for model in self._queues.values() if model.phase == "absent"]
        effects: list[Effect] = []
        free = self._capacity_bytes() - self._charged_bytes
        promised = free + self._unloading_bytes()
        may_evict = True
        for waiter in policy.serving_order(waiters):
            model = self._models[waiter.model]
            needed_bytes = self._needed_bytes(model)
            if needed_bytes > promised:
                if not may_evict:
                    continue
                residents = [
                    self._resident(other, waiter)
                    for other in self._models.values()
                    if other.phase in ("resident", "loading") and not other.stuck
                ]
                plan = policy.make_room(model.spec.task, needed_bytes - promised, residents, overdue=waiter.overdue)
                if plan is None:
                    continue
                may_evict = plan.now
                if plan.now:
                    effects += self._unload([self._models[victim.id] for victim in plan.victims], now_s)
                promised += sum(victim.bytes for victim in plan.victims)
            elif needed_bytes <= free and not (model.retrying and self._unloading_bytes()):
                model.offered_bytes = min(free, promised)
                effects.append(self._load(model, needed_bytes, now_s))
                free -= needed_bytes
            promised -= needed_bytes
        return effects

    def _observe(self, reading: Reading | None) -> None:
        """While models move, what a reading shows belongs to no one in particular."""
        if reading is None:
            return
        self._total_bytes = reading.total_bytes
        still = not any(model.moving for model in self._models.values())
        if reading.own_bytes is not None:
            self._others_bytes = max(0, reading.used_bytes - reading.own_bytes)
            if still:
                self._unreturned_bytes = max(0, reading.own_bytes - self._charged_bytes)
        elif still:
            self._others_bytes = max(0, reading.used_bytes - self._charged_bytes)

    def _load(self, model: _Model, needed_bytes: int, now_s: float) -> Load:
        model.phase = "loading"
        model.since_s = now_s
        self._charge(model, needed_bytes)
        return Load(model.spec.id)

    def _unload(self, models: Iterable[_Model], now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        for model in models:
            model.phase = "unloading"
            model.since_s = now_s
            effects.append(Unload(model.spec.id))
        return effects

    def _vacate(self, model: _Model) -> None:
        model.phase = "absent"
        model.stuck = False
        self._charge(model, 0)

    def _charge(self, model: _Model, taken_bytes: int) -> None:
        self._charged_bytes += taken_bytes - model.charged_bytes
        model.charged_bytes = taken_bytes

    def _dequeue(self, ticket: int) -> None:
        model = self._tickets.pop(ticket)
        del model.waiters[ticket]
        if not model.waiters:
            del self._queues[model.spec.id]

    def _refuse_all(self, model: _Model, error: BaseException) -> list[Effect]:
        tickets = list(model.waiters)
        for ticket in tickets:
            self._dequeue(ticket)
        return [Refuse(ticket, error) for ticket in tickets]

    def _out_of_memory(self, model: _Model, cause: BaseException | None) -> Refused:
        """Running out of memory with the whole budget to itself means that the model can never fit."""
        needed_bytes = self._needed_bytes(model)
        error: Refused
        if needed_bytes > self._budget_bytes:
            error = NeverFits(model.spec.id, needed_bytes, self._budget_bytes)
        else:
            error = OutOfMemory(model.spec.id, self._retry_after_s(model))
        error.__cause__ = cause
        return error

    def _last_ticket(self, now_s: float) -> int | None:
        return policy.last_ticket([model.waiter(now_s) for model in self._queues.values() if model.phase != "resident"])

    def _free_at_once(self, model: _Model, now_s: float) -> bool:
        """A newcomer would be granted without waiting."""
        return (
            model.phase == "resident"
            and not model.waiters
            and model.leases < model.spec.max_concurrency
            and self._last_ticket(now_s) is None
        )

    def _idle(self, model: _Model) -> bool:
        return model.phase == "resident" and not model.leases

    def _evictable(self, model: _Model) -> bool:
        return self._idle(model) and not model.waiters and not model.spec.pinned

    def _resident(self, model: _Model, newcomer: policy.Waiter | None) -> policy.Resident:
        """As the policy sees it. An idle model whose waiters come before the newcomer is as good as busy."""
        awaited = bool(model.waiters) and not (
            newcomer is not None and newcomer.overdue and newcomer.ticket < model.oldest()[0]
        )
        return policy.Resident(
            id=model.spec.id,
            task=model.spec.task,
            bytes=model.charged_bytes,
            last_used_s=model.last_used_s,
            busy=bool(model.leases) or awaited or model.phase == "loading",
            pinned=model.spec.pinned,
        )

    def _needed_bytes(self, model: _Model) -> int:
        """A second try after running out of memory gets more than the first, or again all that can be had."""
        needed_bytes = self._sizes.bytes_for(model.spec)
        if not model.retrying:
            return needed_bytes
        more_bytes = max(needed_bytes, model.offered_bytes + 1)
        return min(more_bytes, max(self._reachable_bytes(), model.offered_bytes))

    def _capacity_bytes(self) -> int:
        """What all models together may take, as things are."""
        capacity = self._budget_bytes - self._unreturned_bytes
        if self._total_bytes is not None:
            capacity = min(capacity, self._total_bytes - self._others_bytes - self._unreturned_bytes)
        return capacity

    def _reachable_bytes(self) -> int:
        """What one model could get if all that can leave left."""
        return self._capacity_bytes() - sum(
            model.charged_bytes for model in self._models.values() if model.stuck or model.spec.pinned
        )

    def _unloading_bytes(self) -> int:
        return sum(
            model.charged_bytes for model in self._models.values() if model.phase == "unloading" and not model.stuck
        )

    def _retry_after_s(self, model: _Model) -> float:
        return model.load_took_s or _RETRY_AFTER_S
