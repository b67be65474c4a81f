"""What the arbiter did and what is in VRAM, for Prometheus.

Happenings are counted as they happen (`ArbiterMetrics` is an Observer); what is, is read when it is asked for. All of
it lives in a registry of its own, apart from LiteLLM's.
"""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from vram.effect import UnloadReason
from vram.snapshot import ModelState, Snapshot

CONTENT_TYPE = CONTENT_TYPE_LATEST

_LOAD_S = (0.5, 1, 2, 5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600)
_WAIT_S = (0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)


class ArbiterMetrics:
    """Counts what the arbiter tells its observer."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._loads = Counter("llmux_loads", "Loads that finished.", ["model"], registry=self._registry)
        self._load_s = Histogram(
            "llmux_load_seconds", "How long loads took.", ["model"], buckets=_LOAD_S, registry=self._registry
        )
        self._evictions = Counter(
            "llmux_evictions", "Models taken off the device.", ["model", "reason"], registry=self._registry
        )
        self._wait_s = Histogram(
            "llmux_wait_seconds",
            "From asking for a model to being served by it.",
            ["model"],
            buckets=_WAIT_S,
            registry=self._registry,
        )
        self._refusals = Counter(
            "llmux_refusals", "Requests that got no lease.", ["model", "kind"], registry=self._registry
        )
        self._out_of_memory = Counter(
            "llmux_out_of_memory", "Times that memory ran out, loading or serving.", ["model"], registry=self._registry
        )

    def loaded(self, model: str, took_s: float, predicted_bytes: int, measured_bytes: int | None) -> None:
        self._loads.labels(model).inc()
        self._load_s.labels(model).observe(took_s)

    def evicted(self, model: str, reason: UnloadReason) -> None:
        self._evictions.labels(model, reason).inc()

    def granted(self, model: str, waited_s: float) -> None:
        self._wait_s.labels(model).observe(waited_s)

    def refused(self, model: str, kind: str) -> None:
        self._refusals.labels(model, kind).inc()

    def out_of_memory(self, model: str) -> None:
        self._out_of_memory.labels(model).inc()

    def watch(self, snapshot: Callable[[], Snapshot]) -> None:
        """Show what is, too. Call once."""
        self._registry.register(_Gauges(snapshot))

    def exposition(self) -> bytes:
        """Everything, in Prometheus' text format; its content type is CONTENT_TYPE."""
        return generate_latest(self._registry)


class _Gauges(Collector):
    """The device and its models at the moment of the scrape."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[GaugeMetricFamily]:
        now = self._snapshot()
        yield GaugeMetricFamily("llmux_budget_bytes", "What models may use together.", now.budget_bytes)
        yield GaugeMetricFamily("llmux_used_bytes", "Held by models.", now.charged_bytes)
        yield GaugeMetricFamily("llmux_unreturned_bytes", "Held by no model, after unloads.", now.unreturned_bytes)
        yield GaugeMetricFamily("llmux_foreign_bytes", "Held by other processes.", now.others_bytes)
        yield GaugeMetricFamily("llmux_free_bytes", "What a load could take without eviction.", now.available_bytes)
        yield GaugeMetricFamily("llmux_device_up", "1 while the device can be read.", float(now.device_error is None))
        for name, about, value in _OF_MODELS:
            family = GaugeMetricFamily(name, about, labels=["model"])
            for model in now.models:
                shown = value(model)
                if shown is not None:
                    family.add_metric([model.id], shown)
            yield family


_OF_MODELS: tuple[tuple[str, str, Callable[[ModelState], float | None]], ...] = (
    ("llmux_model_resident", "1 while the model is on the device.", lambda model: float(model.phase == "resident")),
    ("llmux_model_predicted_bytes", "What its files say it takes.", lambda model: model.predicted_bytes),
    ("llmux_model_measured_bytes", "What it was seen to take.", lambda model: model.measured_bytes),
    ("llmux_queue_length", "Requests that wait for the model.", lambda model: model.waiting),
    ("llmux_leases", "Requests that it serves.", lambda model: model.leases),
)
