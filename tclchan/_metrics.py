"""The metrics of ``tclchan httpd``, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from ._build_config import VERSION
from ._snapshot import Snapshots

# What each field of Stats tells. Its metric is tclchan_FIELD, but that a unit comes last (see
# metric_name); a counter's ends in _total besides when it is read.
COUNTERS = {
    "channels_opened": "Channels made.",
    "accepts": "Connections accepted.",
    "accept_errors": "Accepts that failed.",
    "accepts_dead": "Connections that were reset before they were accepted.",
    "accept_pauses": "Times that accepting paused for want of descriptors or memory.",
    "connects": "Connections made as a client.",
    "connect_errors": "Connections as a client that failed.",
    "resets": "Connections that the peer reset.",
    "bytes_received": "Bytes received from peers.",
    "bytes_sent": "Bytes handed to the kernel for peers.",
    "bytes_copied": "Bytes that iocp::copy has copied without Tcl.",
    "ops_submitted": "Operations given to the engine.",
    "ops_completed": "Completions of operations.",
    "ops_orphaned": "Operations whose channel was closed before they completed.",
    "enters": "System calls that submit, receive, send or fetch results.",
    "waits": "Those of the system calls that may have blocked.",
    "linger_expired": "Closed channels given up on since the peer did not read.",
    "idle_timeouts": "Connections ended for want of anything happening.",
    "request_timeouts": "Connections ended since a request took too long.",
    "proxy_errors": "Connections without a good header of the PROXY protocol.",
    "send_retries": "Sends repeated for want of the kernel's memory.",
    "events_queued": "Events given to Tcl.",
}
GAUGES = {
    "sockets_open": (
        "Sockets open now: connections, also those that nobody took yet, and listeners."
    ),
    "buffers": "Buffers that hold data now, or wait for some.",
    "pool_bytes": "Memory of the pools of receive buffers.",
    "bytes_queued": "Memory of other buffers, most of it to be sent.",
    "heap_bytes": "Memory of the driver itself.",
}


def metric_name(field: str) -> str:
    """Return the name of the metric for a field of `Stats`: of bytes_sent, tclchan_sent_bytes."""
    unit, _, rest = field.partition("_")
    return f"tclchan_{rest}_bytes" if unit == "bytes" else f"tclchan_{field}"


class WorkerCollector(Collector):
    """Everything that is told of the workers, each with its number as the label ``worker``.

    What is told of a worker's process comes from ``/proc`` through prometheus_client's own
    collector: ``tclchan_process_cpu_seconds_total``, ``tclchan_process_open_fds``, and so on.
    """

    def __init__(self, snapshots: Snapshots) -> None:
        """Collect from *snapshots*, anew each time."""
        self._snapshots = snapshots

    def collect(self) -> Iterator[Metric]:
        """Yield the families of metrics."""
        workers = {str(number): worker for number, worker in sorted(self._snapshots().items())}
        yield InfoMetricFamily("tclchan_build", "The program.", value={"version": VERSION})
        names = InfoMetricFamily("tclchan_worker", "What a worker serves with.", labels=["worker"])
        restarts = CounterMetricFamily(
            "tclchan_worker_restarts",
            "Times that a worker was started in the place of one that had ended.",
            labels=["worker"],
        )
        connections = GaugeMetricFamily(
            "tclchan_connections_open", "Connections open now.", labels=["worker"]
        )
        for number, worker in workers.items():
            names.add_metric([number], {name: worker[name] for name in ("server", "engine")})
            restarts.add_metric([number], worker["restarts"])
            connections.add_metric([number], worker["connections"])
        yield from (names, restarts, connections)
        for kind, table in ((CounterMetricFamily, COUNTERS), (GaugeMetricFamily, GAUGES)):
            for field, text in table.items():
                name = metric_name(field)
                unit = "bytes" if name.endswith("_bytes") else ""
                family = kind(name, text, labels=["worker"], unit=unit)
                for number, worker in workers.items():
                    family.add_metric([number], worker["counters"][field])
                yield family
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for number, worker in workers.items():
            for metric in process_metrics(worker["pid"]):
                kind = CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily
                family = families.setdefault(
                    metric.name, kind(metric.name, metric.documentation, labels=["worker"])
                )
                family.add_metric([number], metric.samples[0].value)
        yield from families.values()


def process_metrics(pid: int) -> list[Metric]:
    """What the system tells of a process; nothing if it has ended."""
    return list(ProcessCollector("tclchan", pid=lambda: pid, registry=None).collect())
