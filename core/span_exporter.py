"""Writes finished spans to an OTLP endpoint over HTTP, by OpenTelemetry's SDK on its own thread.

Invariant: writing never waits and never fails. When the endpoint is away or slow, at most
`trace.queue_spans` are kept and the rest is dropped, and counted.
"""

import threading
from collections.abc import Sequence
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.status import Status, StatusCode

from core import metrics
from core.settings.observability import TraceSettings
from core.tracing import Attributes, Context, Kind

KINDS: dict[Kind, SpanKind] = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
SAMPLED = TraceFlags(TraceFlags.SAMPLED)
UNSET = Status(StatusCode.UNSET)

#: What is left at the end of a process is given so long to leave.
CLOSE_SECONDS = 2.0


class SpanWriter:
    """One process's way out for spans."""

    def __init__(self, settings: TraceSettings, process: str) -> None:
        self._resource = Resource.create(
            {"service.name": f"penstock-{process}", "service.version": version("penstock")}
        )
        self._scope = InstrumentationScope("penstock", version("penstock"))
        self._limit = settings.queue_spans
        exporter = OTLPSpanExporter(
            endpoint=f"{settings.endpoint.rstrip('/')}/v1/traces",
            timeout=settings.timeout_seconds,
        )
        self._exporter = CountingExporter(exporter)
        self._processor = BatchSpanProcessor(
            self._exporter,
            # Never reached: at the limit we drop ourselves, where it is counted and not logged.
            max_queue_size=settings.queue_spans * 2,
            schedule_delay_millis=settings.export_seconds * 1000,
            max_export_batch_size=min(512, settings.queue_spans),
        )

    def write(
        self,
        name: str,
        context: Context,
        parent: Context | None,
        times: tuple[int, int],
        attributes: Attributes,
        kind: Kind = "internal",
        *,
        error: str = "",
        links: Sequence[Context] = (),
    ) -> None:
        """Hand over a finished span; `times` are Unix nanoseconds, `error` a code."""
        if self._exporter.pending >= self._limit:
            metrics.spans.labels("dropped").inc()
            return
        began, ended = times
        span = ReadableSpan(
            name=name,
            context=_context(context),
            parent=None if parent is None else _context(parent),
            resource=self._resource,
            attributes={**attributes, "error.type": error} if error else attributes,
            links=[Link(_context(link)) for link in links],
            kind=KINDS[kind],
            status=Status(StatusCode.ERROR, error) if error else UNSET,
            start_time=began,
            end_time=max(began, ended),
            instrumentation_scope=self._scope,
        )
        self._exporter.add()
        self._processor.on_end(span)

    def close(self) -> None:
        """Send what is left; what an endpoint does not take in time is lost."""
        closing = threading.Thread(target=self._processor.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


class CountingExporter(SpanExporter):
    """Passes batches on and knows how many spans wait."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._lock = threading.Lock()
        self.pending = 0

    def add(self) -> None:
        """One more span waits."""
        with self._lock:
            self.pending += 1

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; one that fails is gone."""
        sent = False
        try:
            result = self._exporter.export(spans)
            sent = result is SpanExportResult.SUCCESS
            return result
        finally:
            with self._lock:
                self.pending -= len(spans)
            metrics.spans.labels("exported" if sent else "failed").inc(len(spans))

    def shutdown(self) -> None:
        """Give up what is being repeated."""
        self._exporter.shutdown()


def _context(context: Context) -> SpanContext:
    return SpanContext(context.trace_id, context.span_id, is_remote=False, trace_flags=SAMPLED)
