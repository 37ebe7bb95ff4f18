"""Count requests and measure their latency, and collect all metrics for `/metrics`.

The workers share the counts through files of prometheus-client. A file belongs to the slot of a worker,
not to its process id: a worker that replaces a dead one continues the same file. Without slots, as in
tests or under another server, each process counts for itself. All other metrics are computed from the
records at each scrape.
"""

import os
import struct
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

import prometheus_client
from flask import Flask, Response, current_app, g, request
from prometheus_client import CollectorRegistry, Histogram, generate_latest, values
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics import exposition as openmetrics

from attrition.errors import NotReady
from attrition.messages import causes
from attrition.operations import metrics
from attrition.operations.metrics import Families, Values
from attrition.operations.releases import Release
from attrition.storage import history
from attrition.storage.files import Record
from attrition.web import health
from attrition.web.artifact_cache import State, optional
from attrition.web.middleware import name_of_view

T = TypeVar("T")

FOLDER, SLOT = "PROMETHEUS_MULTIPROC_DIR", "ATTRITION_WORKER_SLOT"
REQUESTS = ("attrition_http_requests", "requests that were answered")
LATENCY = (
    "attrition_http_request_duration_seconds",
    "time from the complete request to its answer",
)
LABELS = ("view", "method", "status")
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS = ("GET", "HEAD", "POST", "OPTIONS")  # a client may send any other word
OTHER = "other"
# A worker that has just begun a file may not have written its first bytes.
READ_TRIES, READ_PAUSE_S = 3, 0.01
OPENMETRICS = "application/openmetrics-text"


class Requests:
    """The counters of one app; its workers share them if each has a slot."""

    def __init__(self) -> None:
        folder, slot = os.environ.get(FOLDER), os.environ.get(SLOT)
        self._folder = folder if slot else None
        # prometheus-client has no other way to choose; it concerns this process alone.
        values.ValueClass = (
            values.MultiProcessValue(lambda: slot)  # type: ignore[no-untyped-call]
            if self._folder
            else values.MutexValue
        )
        # The files of workers have none either.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._count = prometheus_client.Counter(*REQUESTS, LABELS, registry=self._registry)
        self._latency = Histogram(*LATENCY, LABELS, buckets=BUCKETS_S, registry=self._registry)
        self._children: dict[tuple[str, str, int], tuple[prometheus_client.Counter, Histogram]] = {}

    def record(self, view: str, method: str, status: int, elapsed_s: float) -> None:
        """Count one answer."""
        key = (view, method, status // 100)
        children = self._children.get(key)
        if children is None:
            labels = (view or OTHER, method if method in METHODS else OTHER, f"{status // 100}xx")
            children = (self._count.labels(*labels), self._latency.labels(*labels))
            if method in METHODS:
                self._children[key] = children
        count, latency = children
        count.inc()
        latency.observe(elapsed_s)

    def collect(self) -> list[Any]:
        """Return the counts of all workers.

        Raises: OSError, ValueError or struct.error if their files cannot be read.
        """
        if self._folder is None:
            return list(self._registry.collect())
        for pause_s in (*[READ_PAUSE_S] * (READ_TRIES - 1), 0):
            try:
                return read_files(self._folder)
            except (OSError, ValueError, struct.error):
                if not pause_s:
                    raise
                time.sleep(pause_s)
        raise AssertionError


def read_files(folder: str) -> list[Any]:
    """Add up the counts in the files of all slots."""
    collector = MultiProcessCollector(CollectorRegistry(), folder)  # type: ignore[no-untyped-call]
    return list(collector.collect())  # type: ignore[no-untyped-call]


def init_app(app: Flask) -> None:
    """Count every request of the app, including those that are refused."""
    app.extensions["attrition_requests"] = Requests()
    app.after_request(record)


def record(response: Response) -> Response:
    elapsed_s = time.perf_counter() - g.started
    requests: Requests = current_app.extensions["attrition_requests"]
    requests.record(name_of_view(), request.method, response.status_code, elapsed_s)
    return response


# ---- the scrape


def answer(state: State, now: datetime) -> Response:
    """Return all metrics in the text format of Prometheus, or as OpenMetrics if the caller asks."""
    described = describe_state(state, now)
    counts: list[Any] = []
    try:
        counts = current_app.extensions["attrition_requests"].collect()
    except (OSError, ValueError, struct.error):
        described["record_readable"]["requests"] = 0.0
    everything = Families([*metrics.families(described), *counts])
    if OPENMETRICS in request.headers.get("Accept", ""):
        data = openmetrics.generate_latest(everything)  # type: ignore[no-untyped-call]
        kind = openmetrics.CONTENT_TYPE_LATEST
    else:
        data, kind = generate_latest(everything), CONTENT_TYPE_PLAIN_0_0_4
    return Response(data, content_type=kind)


def describe_state(state: State, now: datetime) -> Values:
    """Compute the metrics of the release that is served, the records, the recent runs and the disk."""
    release, values = describe_served(state)

    def read_monitoring() -> Record | None:
        record = existing(state.monitoring)
        return record and record | {"served": release.id if release else None}

    readers: dict[str, Callable[[], Any]] = {
        "history": lambda: next(iter(state.read_history(history.read_worked_runs, 1)), None),
        "ingestion": lambda: existing(state.ingestion),
        "monitoring": read_monitoring,
        "assessment": lambda: existing(state.assessment),
        "diagnostics": lambda: existing(state.diagnostics),
        "last_run": lambda: existing(state.last_run),
        "contact_log": lambda: {"entries": existing(state.count_entries)},
    }
    return values | metrics.compute(readers) | describe_now(state, now)


def describe_served(state: State) -> tuple[Release | None, Values]:
    """Return the release that is served, None if there is none, and its metrics."""
    production = state.production
    try:
        release, _ = production.get()
    except NotReady as error:
        return None, {"release_verified": {"": 0.0}} if error.code == "damaged" else {}
    values = metrics.describe_release({"id": release.id, **release.manifest})
    values["release_verified"] = {"": float(production.problem is None)}
    return release, values | {"model_flat": {"": float(production.is_flat)}}


def describe_now(state: State, now: datetime) -> Values:
    """Compute what changes without a run."""
    result = health.check_health(state, now)
    codes = Counter(complaint.code for complaint in result.complaints)
    is_ready = optional(health.check_ready, state, now) is not None
    values: Values = {
        "ready": {"": float(is_ready)},
        "last_day_runs": dict(result.runs.counts),
        "complaints": {code: codes[code] for code in sorted({*causes.CODES, *codes})},
    }
    if result.runs.good_at:
        values["last_good_run_timestamp_seconds"] = {"": metrics.timestamp(result.runs.good_at)}
    return values | metrics.measure_disk(state.config)


def existing(read: Callable[[], T]) -> T | None:
    """Return what `read` returns, None if its file does not exist yet.

    Raises: NotReady if it is damaged.
    """
    try:
        return read()
    except NotReady as error:
        if error.code == "damaged":
            raise
    return None
