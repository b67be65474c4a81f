"""How others decide who is on the GPU: each as a small policy with the scheduler's events and effects.

They are given what the real programs do not all have: true sizes, one slot rule (max_concurrency, as llmux), and
eviction of no more than what makes room. None refuses anybody.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vram.effect import Effect, Grant, Load, Unload, UnloadReason
from vram.model import ModelSpec
from vram.snapshot import Phase


@dataclass(slots=True)
class _Model:
    spec: ModelSpec
    phase: Phase = "absent"
    leases: int = 0
    last_used_s: float = 0.0

    @property
    def idle(self) -> bool:
        return self.phase == "resident" and not self.leases


class Peer(ABC):
    """One queue in the order of arrival; what happens with it is up to each.

    models: with their true bytes
    budget_bytes: what they may use together
    """

    def __init__(self, models: Iterable[ModelSpec], budget_bytes: int) -> None:
        self._models = {spec.id: _Model(spec) for spec in models}
        self._budget_bytes = budget_bytes
        self._queue: list[tuple[int, _Model]] = []
        self._held: dict[int, _Model] = {}
        self._reserved: list[_Model] = []
        """Whose room is being made."""

    def request(self, ticket: int, model: str, now_s: float) -> Sequence[Effect]:
        self._queue.append((ticket, self._models[model]))
        return self._advance(now_s)

    def release(self, ticket: int, now_s: float) -> Sequence[Effect]:
        model = self._held.pop(ticket)
        model.leases -= 1
        model.last_used_s = now_s
        return self._advance(now_s)

    def loaded(self, model: str, now_s: float) -> Sequence[Effect]:
        self._models[model].phase = "resident"
        self._models[model].last_used_s = now_s
        return self._advance(now_s)

    def unloaded(self, model: str, now_s: float) -> Sequence[Effect]:
        self._models[model].phase = "absent"
        return self._advance(now_s)

    def tick(self, now_s: float) -> Sequence[Effect]:
        return self._advance(now_s)

    def wake_at_s(self) -> float | None:
        return None

    def _advance(self, now_s: float) -> Sequence[Effect]:
        """Loads whose room has come, then whatever the queue allows."""
        effects: list[Effect] = []
        for model in list(self._reserved):
            if model.spec.estimate_bytes <= self._free_bytes():
                self._reserved.remove(model)
                effects.append(self._load(model))
        return effects + self._serve(now_s)

    @abstractmethod
    def _serve(self, now_s: float) -> list[Effect]: ...

    def _grant(self, ticket: int, model: _Model, now_s: float) -> list[Effect]:
        """Nothing when all of the model's slots are taken: the request stays in the queue."""
        if model.leases >= model.spec.max_concurrency:
            return []
        self._queue.remove((ticket, model))
        self._held[ticket] = model
        model.leases += 1
        model.last_used_s = now_s
        return [Grant(ticket, model.spec.id)]

    def _load(self, model: _Model) -> Load:
        model.phase = "loading"
        return Load(model.spec.id)

    def _unload(self, models: Iterable[_Model], reason: UnloadReason = "room") -> list[Effect]:
        effects: list[Effect] = []
        for model in models:
            model.phase = "unloading"
            effects.append(Unload(model.spec.id, reason))
        return effects

    def _free_bytes(self) -> int:
        return self._budget_bytes - sum(
            model.spec.estimate_bytes for model in self._models.values() if model.phase != "absent"
        )

    def _promised_bytes(self) -> int:
        """Free once all unloads under way are over, beside what is reserved."""
        coming = sum(model.spec.estimate_bytes for model in self._models.values() if model.phase == "unloading")
        return self._free_bytes() + coming - sum(model.spec.estimate_bytes for model in self._reserved)

    def _swap_in(self, model: _Model) -> list[Effect] | None:
        """Least recently used idle models leave, as few as make room; None when all of them are too few."""
        missing_bytes = model.spec.estimate_bytes - self._promised_bytes()
        victims: list[_Model] = []
        for idle in sorted((each for each in self._models.values() if each.idle), key=lambda each: each.last_used_s):
            if missing_bytes <= 0:
                break
            victims.append(idle)
            missing_bytes -= idle.spec.estimate_bytes
        if missing_bytes > 0:
            return None
        effects = self._unload(victims)
        if model.spec.estimate_bytes <= self._free_bytes():
            return [*effects, self._load(model)]
        self._reserved.append(model)
        return effects


class Fifo(Peer):
    """First in, first out, with least-recently-used eviction: the textbook, and the yardstick.

    Nobody is granted before an earlier request that waits for a swap. One that waits only for a slot of a resident
    model holds up nobody else, and while a model loads the next in line may begin to swap beside it.
    """

    def _serve(self, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        swapping = False
        for ticket, model in list(self._queue):
            if model.phase == "resident":
                if not swapping:
                    effects += self._grant(ticket, model, now_s)
                continue
            swapping = True
            if model.phase == "absent" and model not in self._reserved:
                swap = self._swap_in(model) if not self._awaited_before(ticket) else None
                if swap is None:
                    break
                effects += swap
        return effects

    def _awaited_before(self, ticket: int) -> bool:
        """A resident model with an earlier waiter in line would lose its place to a swap."""
        return any(earlier < ticket and model.idle for earlier, model in self._queue)


class LlamaSwap(Peer):
    """llama-swap: a request for a loaded model is always served first, without a limit.

    Source: mostlygeek/llama-swap, internal/router/scheduler/fifo.go (OnRequest, drainQueue): a ready model is served
    at once; a swap that would stop a model in use stays queued, and the queue is walked on past it. Which models leave
    is configured there (groups, matrix); here the least recently used leave, and only as many as make room.
    """

    def _serve(self, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        for ticket, model in list(self._queue):
            if model.phase == "resident":
                effects += self._grant(ticket, model, now_s)
        for _, model in list(self._queue):
            if model.phase == "absent" and model not in self._reserved:
                effects += self._swap_in(model) or []
        return effects


class Ollama(Peer):
    """Ollama: first in, first out for swaps, one at a time; loaded models overtake; whose keep-alive ends first leaves.

    Source: ollama/ollama, server/sched.go. GetRunner hands out a loaded runner without queueing; processPending takes
    one request at a time, and while nothing else loads it expires one runner after the other (findRunnerToUnload: an
    idle one if there is, else the first one to become idle) until the newcomer fits; while another model loads, a
    request that does not fit goes to the back of the queue. findRunnerToUnload sorts by keep-alive and then by name;
    with the same keep-alive for all, the time when it ends is the kinder reading.

    keep_alive_s: idle models leave after this time (OLLAMA_KEEP_ALIVE, five minutes by default); None: never
    """

    def __init__(self, models: Iterable[ModelSpec], budget_bytes: int, keep_alive_s: float | None) -> None:
        super().__init__(models, budget_bytes)
        self._keep_alive_s = keep_alive_s

    def _serve(self, now_s: float) -> list[Effect]:
        effects: list[Effect] = []
        for ticket, model in list(self._queue):
            if model.phase == "resident":
                effects += self._grant(ticket, model, now_s)
        if self._keep_alive_s is not None:
            kept_s = self._keep_alive_s
            idle = [model for model in self._models.values() if model.idle]
            effects += self._unload([model for model in idle if now_s >= model.last_used_s + kept_s], "idle")
        for ticket, model in list(self._queue):
            if model.phase in ("resident", "loading"):
                continue
            if model.phase == "absent" and model.spec.estimate_bytes <= self._free_bytes():
                effects.append(self._load(model))
            elif any(other.phase == "loading" for other in self._models.values()):
                self._queue.remove((ticket, model))
                self._queue.append((ticket, model))
            else:
                if not any(other.phase == "unloading" for other in self._models.values()):
                    soonest = min(
                        (other for other in self._models.values() if other.idle),
                        key=lambda other: other.last_used_s,
                        default=None,
                    )
                    effects += self._unload([soonest] if soonest else [])
                break
        return effects

    def wake_at_s(self) -> float | None:
        if self._keep_alive_s is None:
            return None
        return min((m.last_used_s + self._keep_alive_s for m in self._models.values() if m.idle), default=None)
