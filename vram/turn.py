"""What has become possible after an event: who is refused, granted, evicted and loaded."""

from collections.abc import Mapping

from vram import outlook, policy
from vram.effect import Effect, Grant
from vram.refusal import DeviceLost, NeverFits
from vram.state import State


def turn(state: State, now_s: float) -> list[Effect]:
    """Do it all, in this order: who cannot be served, who needs no swap, who needs one."""
    effects: list[Effect] = []
    needs = {slot.spec.id: state.needed_bytes(slot) for slot in state.queue if slot.phase == "absent"}
    if needs:
        effects += _refuse_hopeless(state, needs, now_s)
    if state.queue:
        effects += _grant(state, now_s)
    effects += _return_to_budget(state, now_s)
    if needs:
        effects += _swap(state, needs, now_s)
    return effects


def _refuse_hopeless(state: State, needs: Mapping[str, int], now_s: float) -> list[Effect]:
    effects: list[Effect] = []
    memory = state.memory
    reachable_bytes = state.reachable_bytes
    for name, needed_bytes in needs.items():
        slot = state.slots[name]
        if needed_bytes > memory.budget_bytes:
            effects += state.refuse_all(slot, NeverFits(name, needed_bytes, memory.budget_bytes))
        elif memory.error is not None:
            effects += state.refuse_all(slot, DeviceLost(name, memory.error, outlook.DEVICE_RECHECK_S))
        elif needed_bytes > reachable_bytes and now_s >= slot.overdue_at_s:
            effects += state.refuse_all(slot, outlook.out_of_memory(state, slot, None, now_s))
    return effects


def _grant(state: State, now_s: float) -> list[Effect]:
    effects: list[Effect] = []
    ready = [slot for slot in state.queue if slot.open]
    if not ready:
        return effects
    last_ticket = state.queue.last_ticket(now_s)
    for slot in ready:
        while slot.waiters and slot.open:
            ticket = slot.oldest
            if last_ticket is not None and ticket > last_ticket:
                break
            state.queue.leave(ticket)
            state.held[ticket] = (slot, now_s)
            slot.leases += 1
            slot.last_used_s = now_s
            effects.append(Grant(ticket, slot.spec.id))
    return effects


def _return_to_budget(state: State, now_s: float) -> list[Effect]:
    """Evict what is idle when a model proved larger than it was thought to be."""
    memory = state.memory
    over_bytes = memory.charged_bytes + memory.unreturned_bytes - memory.budget_bytes
    if over_bytes > 0:
        over_bytes -= state.unloading_bytes
    if over_bytes <= 0:
        return []
    residents = [slot.resident(None, now_s) for slot in state.slots.values() if slot.phase == "resident"]
    victims = policy.evictions(residents, over_bytes)
    if victims is None:
        victims = tuple(resident for resident in policy.eviction_order(residents) if not resident.busy)
    return state.unload([state.slots[victim.id] for victim in victims], now_s, "room")


def _swap(state: State, needs: Mapping[str, int], now_s: float) -> list[Effect]:
    """Load what fits, evict for what does not. needs: what each absent model with waiters takes.

    `free` is there now; `promised` is what will be free, once all that was decided has happened, for those who
    come later in the order; `spare` is what each of those who come earlier can do without even then. When
    somebody has to wait for a model that is busy or lingers, whoever comes after may load into what stays free
    beside it, but evict nothing: what is idle is part of that somebody's room. A second try after running out of
    memory waits until all that was evicted for it is gone.
    """
    waiters = [state.slots[name].waiter(now_s) for name in needs if state.slots[name].waiters]
    effects: list[Effect] = []
    free = state.memory.free_bytes
    promised = spare = free + state.unloading_bytes
    may_evict = True
    for waiter in policy.serving_order(waiters):
        slot = state.slots[waiter.model]
        needed_bytes = needs[waiter.model]
        if needed_bytes > promised:
            if not may_evict:
                continue
            residents = [
                other.resident(waiter, now_s)
                for other in state.slots.values()
                if other.phase in ("resident", "loading") and not other.stuck
            ]
            plan = policy.make_room(slot.spec.task, needed_bytes - promised, residents, overdue=waiter.overdue)
            if plan is None:
                continue
            may_evict = plan.now
            if plan.now:
                effects += state.unload([state.slots[victim.id] for victim in plan.victims], now_s, "room")
            promised += sum(victim.bytes for victim in plan.victims)
        elif needed_bytes <= min(free, spare) and not (slot.retrying and state.unloading_bytes):
            slot.offered_bytes = min(free, spare)
            effects.append(state.load(slot, needed_bytes, now_s))
            free -= needed_bytes
            spare -= needed_bytes
        promised -= needed_bytes
        spare = min(spare, promised)
    return effects
