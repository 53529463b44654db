"""The server's metrics, in Prometheus' text format."""

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

__all__ = ["Metrics"]

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The counters of one server, in a registry of its own."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, model: str, waiting: Callable[[], int]) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter("contrastill_requests", "Requests answered", ["endpoint", "status"], registry=registry)
        self.seconds = Histogram(
            "contrastill_request_seconds",
            "From the end of a request's headers to the end of its answer",
            ["endpoint"],
            buckets=SECONDS,
            registry=registry,
        )
        self.active = Gauge("contrastill_requests_active", "Requests that are being answered", registry=registry)
        self.batches = Histogram(
            "contrastill_batch_texts", "Texts computed at a time", buckets=SIZES, registry=registry
        )
        self.stages = Counter(
            "contrastill_model_seconds", "Seconds spent on batches, by stage", ["stage"], registry=registry
        )
        self.texts = Counter("contrastill_texts", "Texts computed", registry=registry)
        self.tokens = Counter("contrastill_tokens", "Tokens computed, padding left out", registry=registry)
        self.truncated = Counter("contrastill_texts_truncated", "Texts longer than the model reads", registry=registry)
        self.abstained = Counter("contrastill_texts_abstained", "Texts whose answer abstains", registry=registry)
        self.failures = Counter("contrastill_batch_failures", "Batches that could not be computed", registry=registry)
        self.connections = Counter(
            "contrastill_connections_ended",
            "Connections refused (limit reached), dropped for a newer one, or timed out",
            ["reason"],
            registry=registry,
        )
        for reason in ("refused", "dropped", "timed_out"):
            self.connections.labels(reason)
        self.open = Gauge("contrastill_connections_open", "Connections that are open", registry=registry)
        Gauge("contrastill_queue_texts", "Texts that wait for a batch", registry=registry).set_function(waiting)
        Gauge("contrastill_model_info", "The model that is served", ["model"], registry=registry).labels(model).set(1)

    def page(self) -> bytes:
        return generate_latest(self.registry)
