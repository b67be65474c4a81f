from prometheus_client.parser import text_string_to_metric_families

from llmux.metrics import ArbiterMetrics
from tests.snapshots import state
from vram.observer import Observer
from vram.snapshot import ModelState, Snapshot


def snapshot(*models: ModelState, device_error: str | None = None) -> Snapshot:
    return Snapshot(16_000, 9_000, 100, 500, 6_400, models, device_error)


def samples(metrics: ArbiterMetrics) -> dict[tuple[str, ...], float]:
    """By name and the values of the labels, the model first."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items(), key=lambda each: each[0] != "model"))): (
            sample.value
        )
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }


def test_what_the_arbiter_does_is_counted_by_model_and_reason() -> None:
    metrics = ArbiterMetrics()
    observer: Observer = metrics
    observer.loaded("chat", 12.0, 4_000, 4_100)
    observer.loaded("chat", 700.0, 4_000, None)
    observer.evicted("chat", "room")
    observer.evicted("chat", "idle")
    observer.evicted("chat", "room")
    observer.granted("ears", 0.3)
    observer.refused("chat", "queue_full")
    observer.out_of_memory("chat")
    seen = samples(metrics)
    assert seen["llmux_loads_total", "chat"] == 2
    assert seen["llmux_load_seconds_sum", "chat"] == 712
    assert seen["llmux_load_seconds_bucket", "chat", "20.0"] == 1
    assert seen["llmux_load_seconds_bucket", "chat", "+Inf"] == 2
    assert seen["llmux_evictions_total", "chat", "room"] == 2
    assert seen["llmux_evictions_total", "chat", "idle"] == 1
    assert seen["llmux_wait_seconds_count", "ears"] == 1
    assert seen["llmux_wait_seconds_bucket", "ears", "0.1"] == 0
    assert seen["llmux_wait_seconds_bucket", "ears", "0.5"] == 1
    assert seen["llmux_refusals_total", "chat", "queue_full"] == 1
    assert seen["llmux_out_of_memory_total", "chat"] == 1


def test_what_is_is_read_at_each_scrape() -> None:
    metrics = ArbiterMetrics()
    now = snapshot(
        state("chat", phase="resident", leases=2, waiting=3, measured_bytes=4_100), state("ears", task="asr")
    )
    metrics.watch(lambda: now)
    seen = samples(metrics)
    assert seen["llmux_budget_bytes",] == 16_000
    assert seen["llmux_used_bytes",] == 9_000
    assert seen["llmux_unreturned_bytes",] == 100
    assert seen["llmux_foreign_bytes",] == 500
    assert seen["llmux_free_bytes",] == 6_400
    assert seen["llmux_device_up",] == 1
    assert (seen["llmux_model_resident", "chat"], seen["llmux_model_resident", "ears"]) == (1, 0)
    assert seen["llmux_leases", "chat"] == 2
    assert seen["llmux_queue_length", "chat"] == 3
    assert seen["llmux_model_predicted_bytes", "ears"] == 3_800_000_000
    assert seen["llmux_model_measured_bytes", "chat"] == 4_100
    assert ("llmux_model_measured_bytes", "ears") not in seen
    now = snapshot(state("chat"), device_error="the GPU is lost")
    assert samples(metrics)["llmux_device_up",] == 0
    assert samples(metrics)["llmux_leases", "chat"] == 0


def test_two_arbiters_do_not_share_their_counts() -> None:
    one, other = ArbiterMetrics(), ArbiterMetrics()
    one.evicted("chat", "asked")
    assert ("llmux_evictions_total", "chat", "asked") not in samples(other)
