"""What must hold after every event, whatever happens: checked from events and effects against the truth.

The account (bench.account) is kept apart from the scheduler's, and so is what each model really takes. The scheduler's
own word (its snapshot) is taken only for what it charges and what it has made of readings, and a charge must never be
less than what was believed at the load and measured after it. Nor is a model believed to have grown by more than it
has, or a load to need more than the model is believed to take, but for a second try.

Budget. Models that take no more than they are charged never take more than the budget together. What goes beyond (a
first load that proves larger, growth while serving, memory that comes back late) can be known only from a reading on.
From then on no load may begin that does not fit by what is known, and idle models leave as soon as there are any, until
the budget holds. Other processes cannot take what models hold; a load must fit beside them as they were last read.

Evictions. Exactly those that bench.rules finds, for every event after which somebody waits for a model that is absent.

Order. A waiter is overdue when it has waited for its task's max_wait_s and its model is not resident. No later arrival
is granted before it, nor before an earlier one for the same model.
"""

from collections.abc import Iterable, Mapping, Sequence

from bench import rules
from bench.account import Account, Place, Violation
from bench.card import Card
from vram.device import DeviceError, Reading
from vram.effect import Effect
from vram.model import PRIORITY, ModelSpec, Task
from vram.scheduler import Scheduler
from vram.snapshot import ModelState, Snapshot
from vram.state import Sizes

LOOK_EVERY = 64
"""Events between comparisons of the whole account with the scheduler's."""


class Invariants(Account):
    """Told of every event before the scheduler is, and of its effects by `follow`, which raises Violation."""

    def __init__(
        self,
        models: Iterable[ModelSpec],
        scheduler: Scheduler,
        sizes: Sizes,
        card: Card,
        budget_bytes: int,
        max_wait_s: Mapping[Task, float],
        load_s: float,
    ) -> None:
        super().__init__(models, lambda model: sizes.figures(model).load_s, max_wait_s, load_s)
        self._scheduler = scheduler
        self._sizes = sizes
        self._card = card
        self._budget_bytes = budget_bytes
        self._events = 0
        self._measured: tuple[Place, int] | None = None
        self._believed: dict[str, int] = {}
        """What was believed of the models that serve, before an event that may show that one has grown."""
        self._held_bytes: dict[str, int] = {}
        """What each model really held after the last event."""
        self._still: Reading | None = None
        """The last reading that was handed while nothing moved, unless something has moved since."""

    def release(self, ticket: int, now_s: float, *, out_of_memory: bool = False) -> None:
        if not out_of_memory:
            self._note_beliefs()
        super().release(ticket, now_s, out_of_memory=out_of_memory)

    def tick(self, now_s: float) -> None:
        self._note_beliefs()
        super().tick(now_s)

    def measured(self, model: str, taken_bytes: int) -> None:
        """The load that ends in this event was seen to take so much."""
        self._measured = self.places[model], taken_bytes

    def follow(self, effects: Sequence[Effect], reading: Reading | DeviceError | None = None) -> None:
        if isinstance(reading, Reading):
            self._still = None if self.moving else reading
        decided = not (self.late or self.stopping or self.must_leave)
        loads, evicted = self.apply(effects)
        self._events += 1
        self._check_growth()
        snapshot: Snapshot | None = None
        if decided and (evicted or any(place.phase == "absent" for place in self.awaited.values())):
            snapshot = self._look()
            self._check_evictions(snapshot, loads, evicted)
        if loads or self._measured is not None or self._events % LOOK_EVERY == 0:
            self._check_charges(snapshot or self._look(), loads)
        if self.moving:
            self._still = None
        own_bytes = self._own_bytes()
        if own_bytes > self._budget_bytes:
            self._check_budget(snapshot or self._look(), own_bytes, loads, decided)

    def close(self) -> None:
        """All has come to rest: nobody may be left waiting, holding or on the way."""
        self._look()
        if self.waiting or self.held or self.moving:
            raise Violation(f"{len(self.waiting)} wait and {len(self.held)} hold although nothing happens any more")
        if self.stopping and not self._scheduler.empty:
            raise Violation("stopped, but models are left on the device")

    def _look(self) -> Snapshot:
        """What the scheduler says, once it is seen to agree with the account."""
        snapshot = self._scheduler.snapshot(self.now_s)
        for state in snapshot.models:
            place = self.places[state.id]
            said = (state.phase, state.stuck, state.pinned, state.leases, state.waiting)
            if said != (place.phase, place.stuck, place.pinned, place.leases, len(place.waiters)):
                raise Violation(f"of {state.id} the scheduler says {said}")
        return snapshot

    def _own_bytes(self) -> int:
        """What all models take or are about to take, and what has not come back."""
        card = self._card
        own_bytes = card.own_bytes
        for place in self.moving.values():
            if place.phase == "loading":
                own_bytes += card.true_bytes[place.spec.id]
        return own_bytes

    def _note_beliefs(self) -> None:
        self._believed = {place.spec.id: self._sizes.bytes_for(place.spec) for place in self.held.values()}

    def _check_growth(self) -> None:
        for name, believed_bytes in self._believed.items():
            believed_grown_bytes = self._sizes.bytes_for(self.places[name].spec) - believed_bytes
            if believed_grown_bytes > self._card.held_bytes[name] - self._held_bytes[name]:
                raise Violation(f"{name} is believed to have grown by {believed_grown_bytes}, and has not")
        self._believed = {}
        self._held_bytes = dict(self._card.held_bytes)

    def _check_charges(self, snapshot: Snapshot, loads: Sequence[Place]) -> None:
        """Models are charged what they are known to take, and what begins to load fits beside all that is known."""
        charged = {state.id: state.bytes for state in snapshot.models if state.phase != "absent"}
        if sum(charged.values()) != snapshot.charged_bytes:
            raise Violation("the charges of the models do not add up")
        if self._measured is not None:
            place, measured_bytes = self._measured
            self._measured = None
            if charged[place.spec.id] < measured_bytes:
                raise Violation(f"{place.spec.id} is charged less than was measured")
        new_bytes = 0
        for place in loads:
            new_bytes += charged[place.spec.id]
            if charged[place.spec.id] < self._sizes.bytes_for(place.spec):
                raise Violation(f"{place.spec.id} is charged less than it is believed to take")
        if not loads:
            return
        if snapshot.charged_bytes > self._budget_bytes:
            raise Violation("a load begins that does not fit the budget by what models are charged")
        if self._still is None:
            return
        own_bytes = self._still.own_bytes or 0
        if own_bytes + new_bytes > self._budget_bytes:
            raise Violation("a load begins that does not fit the budget as it was read")
        if self._still.used_bytes + new_bytes > self._still.total_bytes:
            raise Violation("a load begins that does not fit the card as it was read")

    def _check_budget(self, snapshot: Snapshot, own_bytes: int, loads: Sequence[Place], decided: bool) -> None:
        card = self._card
        unknown_bytes = card.late_bytes
        if card.tells == "own":
            unknown_bytes = max(0, card.late_bytes - snapshot.unreturned_bytes)
        leaving_bytes = 0
        for state in snapshot.models:
            true_bytes = self._true_bytes(state)
            unknown_bytes += max(0, true_bytes - state.bytes)
            if state.phase == "unloading" and not state.stuck:
                leaving_bytes += min(true_bytes, state.bytes)
        over_bytes = own_bytes - unknown_bytes - self._budget_bytes
        if over_bytes <= 0:
            return
        if loads:
            raise Violation(f"over the budget by {over_bytes} that were known")
        if decided and over_bytes > leaving_bytes and any(place.evictable for place in self.places.values()):
            raise Violation(f"stays {over_bytes} over the budget although a model is idle")

    def _true_bytes(self, state: ModelState) -> int:
        if state.phase == "absent":
            return 0
        return self._card.held_bytes.get(state.id, self._card.true_bytes[state.id])

    def _check_evictions(self, snapshot: Snapshot, loads: Sequence[Place], evicted: Sequence[Place]) -> None:
        """Undoes the event's own swaps, and asks bench.rules who should leave."""
        present: list[rules.Present] = []
        newcomers: list[rules.Newcomer] = []
        capacity_bytes = self._budget_bytes
        if self._card.tells != "nothing":
            capacity_bytes = min(capacity_bytes, self._card.total_bytes - snapshot.others_bytes)
        free_bytes = capacity_bytes - snapshot.unreturned_bytes
        kept_bytes = snapshot.unreturned_bytes
        for state in snapshot.models:
            place = self.places[state.id]
            rank = PRIORITY[state.task]
            if place.phase == "absent" or place in loads:
                believed_bytes = self._sizes.bytes_for(place.spec)
                if state.bytes != believed_bytes and not place.retrying:
                    raise Violation(f"{state.id} is said to need {state.bytes}, and believed to take {believed_bytes}")
                if place.waiters:
                    ticket, _, overdue_s = place.oldest()
                    overdue = self.now_s >= overdue_s
                    newcomers.append(
                        rules.Newcomer(
                            state.id, rank, place.used_s, state.bytes, place.pinned, ticket, overdue, place in loads
                        )
                    )
                continue
            leaving = place.phase == "unloading" and not place.stuck and place not in evicted
            if leaving:
                continue
            free_bytes -= state.bytes
            kept_bytes += state.bytes
            if not place.stuck:
                busy = place.leases > 0 or place.phase == "loading"
                wanted_by = next(iter(place.waiters), None)
                lingers = not busy and wanted_by is None and self.now_s < place.used_s + place.linger_s
                facts = state.id, rank, place.used_s, state.bytes, busy, place.pinned, wanted_by, lingers
                present.append(rules.Present(*facts))
        over_bytes = kept_bytes - self._budget_bytes
        expected: list[rules.Present] = []
        if over_bytes > 0:
            expected = rules.overdraft([model for model in present if not self._loading(model)], over_bytes)
            free_bytes += sum(model.bytes for model in expected)
            present = [model for model in present if model not in expected]
        expected += rules.evictions(present, newcomers, free_bytes)
        wanted = {model.name for model in expected}
        done = {place.spec.id for place in evicted}
        if done - wanted:
            raise Violation(f"needless eviction of {sorted(done - wanted)}; {sorted(wanted)} would do")
        if wanted - done:
            raise Violation(f"{sorted(wanted - done)} should have left")

    def _loading(self, model: rules.Present) -> bool:
        return self.places[model.name].phase == "loading"
