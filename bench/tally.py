"""What happened in a run of random events, and what was found."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """events: those drawn, without the ticks of the clock between them

    effects: what the scheduler did about them, refusals by kind
    violations: what was found, with the seed of its episode
    """

    events: Counter[str] = field(default_factory=Counter)
    effects: Counter[str] = field(default_factory=Counter)
    ticks: int = 0
    episodes: int = 0
    violations: list[str] = field(default_factory=list)

    def lines(self, seed: int, took_s: float, processor_s: float) -> Iterable[str]:
        """As it is printed. processor_s: what it took of took_s on one core that others used too."""
        events = self.events.total()
        yield f"{events} events, {self.ticks} ticks, {self.episodes} episodes, seed {seed}"
        yield f"{len(self.violations)} violations"
        yield from (f"  {violation}" for violation in self.violations[:10])
        yield f"{took_s:.1f} s, of which {processor_s:.1f} s on the processor: {events / processor_s:.0f} events/s"
        for counts in (self.events, self.effects):
            yield ", ".join(f"{name} {count}" for name, count in counts.most_common())
