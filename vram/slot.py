"""One model's place with the scheduler: where it is, who holds it, who waits for it."""

import math
from collections import deque
from dataclasses import dataclass, field

from vram import policy
from vram.model import ModelSpec
from vram.snapshot import Phase

_GAPS = 32
"""How many gaps between requests are remembered."""

_LEASE_WEIGHT = 0.25
"""How much the newest lease counts in the running mean of their length."""


@dataclass(slots=True, eq=False)
class Slot:
    """The scheduler's record of one model.

    since_s: when its load or unload began
    offered_bytes: what was free for the load under way
    waiters: ticket -> when it arrived, oldest first; changed by `join` and `leave` alone
    oldest: ticket of the first of them; overdue_at_s: when that one has waited for its max_wait_s
    gaps_s: how long it was idle before each of its last requests, whether it was still there or not
    linger_s: how long it is kept, once it is idle, from others of its class or a lower one who wait for room
    lease_s: running mean of how long leases are held; None before the first has ended
    retrying: its last load ran out of memory, and those who wait for it may try once more
    spent: it ran out of memory while it served: nobody is granted it any more, and it leaves once it is idle
    stuck: its load or unload was given up
    """

    spec: ModelSpec
    max_wait_s: float
    pinned: bool
    phase: Phase = "absent"
    since_s: float = 0.0
    charged_bytes: int = 0
    offered_bytes: int = 0
    leases: int = 0
    waiters: dict[int, float] = field(default_factory=dict)
    oldest: int = 0
    overdue_at_s: float = math.inf
    last_used_s: float = 0.0
    gaps_s: deque[float] = field(default_factory=lambda: deque(maxlen=_GAPS))
    linger_s: float = 0.0
    lease_s: float | None = None
    retrying: bool = False
    spent: bool = False
    stuck: bool = False

    @property
    def idle(self) -> bool:
        return self.phase == "resident" and not self.leases

    @property
    def unclaimed(self) -> bool:
        """Idle, and nobody waits for it."""
        return self.phase == "resident" and not self.leases and not self.waiters

    @property
    def evictable(self) -> bool:
        return self.unclaimed and not self.pinned

    @property
    def open(self) -> bool:
        """Another lease may begin at once."""
        return self.phase == "resident" and self.leases < self.spec.max_concurrency and not self.spent

    @property
    def lingers_until_s(self) -> float:
        return self.last_used_s + self.linger_s if self.unclaimed else -math.inf

    def asked(self, now_s: float, load_s: float | None) -> None:
        """A request for it comes in. load_s: what a load takes, where that is known."""
        if self.lease_s is not None and not self.leases and not self.waiters:
            self.gaps_s.append(now_s - self.last_used_s)
            self.linger_s = policy.linger_s(self.gaps_s, load_s or 0.0)

    def join(self, ticket: int, now_s: float) -> None:
        """Wait behind whoever waits already."""
        if not self.waiters:
            self.oldest, self.overdue_at_s = ticket, now_s + self.max_wait_s
        self.waiters[ticket] = now_s

    def leave(self, ticket: int) -> None:
        """Wait no longer. KeyError: it does not."""
        del self.waiters[ticket]
        if ticket == self.oldest:
            self.oldest, since_s = next(iter(self.waiters.items()), (0, math.inf))
            self.overdue_at_s = since_s + self.max_wait_s
        if not self.waiters and self.phase == "absent":
            self.retrying = False

    def waiter(self, now_s: float) -> policy.Waiter:
        return policy.Waiter(self.spec.id, self.spec.task, self.oldest, now_s >= self.overdue_at_s)

    def resident(self, newcomer: policy.Waiter | None, now_s: float) -> policy.Resident:
        """As the policy sees it. An idle model whose waiters come before the newcomer is as good as busy."""
        awaited = bool(self.waiters) and not (
            newcomer is not None and newcomer.overdue and newcomer.ticket < self.oldest
        )
        return policy.Resident(
            id=self.spec.id,
            task=self.spec.task,
            bytes=self.charged_bytes,
            last_used_s=self.last_used_s,
            busy=bool(self.leases) or awaited or self.phase == "loading",
            pinned=self.pinned,
            lingers=now_s < self.lingers_until_s,
        )

    def idle_until_s(self) -> float | None:
        """When it has been idle for its idle_unload_s; None when that will not unload it as things are."""
        if self.spec.idle_unload_s is None or not self.evictable:
            return None
        return self.last_used_s + self.spec.idle_unload_s

    def used(self, lasted_s: float) -> None:
        """A lease of this length has ended."""
        self.lease_s = lasted_s if self.lease_s is None else self.lease_s + _LEASE_WEIGHT * (lasted_s - self.lease_s)
