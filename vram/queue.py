"""Who waits: every ticket in its model's queue, how many there may be, and whom nobody may overtake."""

from collections.abc import Collection, Iterator

from vram.slot import Slot


class Queue:
    """per_model, total: waiting requests beyond which a newcomer is turned away."""

    __slots__ = ("_per_model", "_slots", "_tickets", "_total")

    def __init__(self, per_model: int, total: int) -> None:
        self._per_model = per_model
        self._total = total
        self._tickets: dict[int, Slot] = {}
        self._slots: dict[str, Slot] = {}

    def __contains__(self, ticket: int) -> bool:
        return ticket in self._tickets

    def __iter__(self) -> Iterator[Slot]:
        """The models that somebody waits for."""
        return iter(self._slots.values())

    def __len__(self) -> int:
        """How many models that are."""
        return len(self._slots)

    def join(self, ticket: int, slot: Slot, now_s: float) -> None:
        slot.join(ticket, now_s)
        self._tickets[ticket] = slot
        self._slots[slot.spec.id] = slot

    def leave(self, ticket: int) -> None:
        """KeyError: it does not wait."""
        slot = self._tickets.pop(ticket)
        slot.leave(ticket)
        if not slot.waiters:
            del self._slots[slot.spec.id]

    def empty(self, slot: Slot) -> Collection[int]:
        """Nobody waits for the model any more. Returns who did."""
        tickets = tuple(slot.waiters)
        for ticket in tickets:
            self.leave(ticket)
        return tickets

    def full(self, slot: Slot, now_s: float) -> tuple[int, int] | None:
        """How many wait and how many may, where a newcomer would be one too many; None where it would not."""
        if len(slot.waiters) >= self._per_model:
            return len(slot.waiters), self._per_model
        granted_at_once = slot.open and not slot.waiters and self.last_ticket(now_s) is None
        if len(self._tickets) >= self._total and not granted_at_once:
            return len(self._tickets), self._total
        return None

    def last_ticket(self, now_s: float) -> int | None:
        """The latest arrival that may be granted: nobody later overtakes an overdue waiter. None: no limit.

        Only those that need a swap count here. One whose model is resident and full waits for that model's own
        leases, first come first served, and a grant on another model takes nothing from it.
        """
        last_ticket = None
        for slot in self._slots.values():
            if slot.phase != "resident" and now_s >= slot.overdue_at_s:
                last_ticket = slot.oldest if last_ticket is None else min(last_ticket, slot.oldest)
        return last_ticket
