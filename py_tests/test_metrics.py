"""``tclchan httpd --metrics``: what Prometheus is told."""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import Run
from httpclient import DEADLINE, SITE, Server, reset, serve, wait_for
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

import tclchan
from tclchan._metrics import COUNTERS, GAUGES, WorkerCollector
from tclchan._monitor import _Handler, monitoring
from tclchan._snapshot import of_this_process

Answer = tuple[http.client.HTTPResponse, bytes]


def metrics_url(server: Server) -> str:
    """The address that a server with ``--metrics 0`` prints."""
    found = re.fullmatch(r"metrics at (http://127\.0\.0\.1:\d+/metrics)", server.line())
    assert found
    return found[1]


def ask(url: str, path: str = "", method: str = "GET", **headers: str) -> Answer:
    where = urlsplit(url)
    with closing(http.client.HTTPConnection(where.netloc, timeout=DEADLINE)) as connection:
        connection.request(method, path or where.path, headers=headers)
        response = connection.getresponse()
        return response, response.read()


def samples(text: str) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels.get("worker", "")): sample.value
        for family in parse_text(text)
        for sample in family.samples
    }


class Watched:
    """A server with metrics."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.url = metrics_url(server)

    def samples(self) -> dict[tuple[str, str], float]:
        return samples(ask(self.url)[1].decode())


@pytest.fixture
def watched(engine: str, tmp_path: Path) -> Iterator[Watched]:
    with serve(engine, "xotcl", tmp_path, "--metrics", "0") as server:
        yield Watched(server)


def test_traffic(watched: Watched, engine: str) -> None:
    before = watched.samples()
    sent = "tclchan_sent_bytes_total", "1"
    with watched.server.connect():
        _, body = watched.server.request("/icon.png")
        # A client may have an answer before the server has counted it.
        wait_for(lambda: watched.samples()[sent] - before[sent] > len(body))
        after = watched.samples()
    assert before["tclchan_connections_open", "1"] == 0
    assert after["tclchan_connections_open", "1"] >= 1
    grown = {key: after[key] - before[key] for key in before}
    assert grown["tclchan_accepts_total", "1"] == 2
    assert grown["tclchan_received_bytes_total", "1"] > 0
    assert grown["tclchan_worker_restarts_total", "1"] == 0
    response, text = ask(watched.url)
    told = f'tclchan_worker_info{{engine="{engine}",server="xotcl",worker="1"}} 1.0'
    assert told in text.decode()
    assert response.headers.get_content_type() == "text/plain"


def test_process(watched: Watched) -> None:
    found = watched.samples()
    assert found["tclchan_process_open_fds", "1"] == pytest.approx(
        len(os.listdir(f"/proc/{watched.server.pid}/fd")), abs=3
    )
    assert found["tclchan_process_resident_memory_bytes", "1"] > 1_000_000
    assert found["tclchan_process_cpu_seconds_total", "1"] > 0


def test_every_metric_is_described(watched: Watched) -> None:
    families = list(parse_text(ask(watched.url)[1].decode()))
    assert len(families) > len(COUNTERS) + len(GAUGES)
    for family in families:
        assert family.documentation.endswith("."), family.name
        assert family.type in ("counter", "gauge"), family.name
        assert family.name.startswith("tclchan_")
    response, text = ask(watched.url, Accept="application/openmetrics-text")
    assert response.headers.get_content_type() == "application/openmetrics-text"
    families = list(parse_openmetrics(text.decode()))  # type: ignore[no-untyped-call]
    units = {family.name: family.unit for family in families}
    assert units["tclchan_sent_bytes"] == "bytes"
    assert units["tclchan_pool_bytes"] == "bytes"


def test_every_counter_is_a_metric() -> None:
    assert {*COUNTERS, *GAUGES} == {field.name for field in dataclasses.fields(tclchan.Stats)}


def workers() -> Mapping[int, Mapping[str, object]]:
    counters = dict.fromkeys([*COUNTERS, *GAUGES], 3)
    named = {"uptime": 1.0, "server": "xotcl", "engine": "epoll", "connections": 2}
    gone = subprocess.Popen(["true"])
    gone.wait()
    return {
        2: {**named, "pid": gone.pid, "counters": counters, "restarts": 4},
        1: {**named, "pid": os.getpid(), "counters": counters, "restarts": 0},
    }


def test_several_workers() -> None:
    registry = CollectorRegistry()
    registry.register(WorkerCollector(workers))
    found = samples(generate_latest(registry).decode())
    for number in ("1", "2"):
        assert found["tclchan_accepts_total", number] == 3
        assert found["tclchan_queued_bytes", number] == 3
        assert found["tclchan_connections_open", number] == 2
    assert found["tclchan_worker_restarts_total", "1"] == 0
    assert found["tclchan_worker_restarts_total", "2"] == 4
    # That one has ended since: there is nothing to tell of its process.
    assert ("tclchan_process_open_fds", "1") in found
    assert ("tclchan_process_open_fds", "2") not in found


def test_statistics_for_the_page(watched: Watched) -> None:
    response, body = ask(watched.url, "/tclchan/stats.json")
    assert response.headers.get_content_type() == "application/json"
    answer = json.loads(body)
    worker = answer["workers"]["1"]
    assert answer["version"] == tclchan.__version__
    assert worker["pid"] == watched.server.pid
    assert worker["restarts"] == 0
    assert worker["counters"]["sockets_open"] == 1
    assert worker["process"]["open_fds"] > 3


def test_paths_and_methods(watched: Watched) -> None:
    for path, status in [
        ("/tclchan/", 200),
        ("/tclchan", 302),
        ("/", 302),
        ("/none", 404),
        ("/tclchan/../page.html", 404),
        ("/tclchan/stats.json?x", 200),
    ]:
        response, body = ask(watched.url, path)
        assert response.status == status, path
        assert int(response.headers["Content-Length"]) == len(body)
        told, nothing = ask(watched.url, path, "HEAD")
        assert (told.status, nothing) == (status, b"")
        if status == 302:
            assert response.headers["Location"] == "/tclchan/"
    for path in ("/metrics", "/tclchan/", "/tclchan/stats.json"):
        assert ask(watched.url, path, "POST")[0].status == 405
    policy = ask(watched.url, "/tclchan/")[0].headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")


def test_rude_clients(watched: Watched) -> None:
    """They disturb neither each other nor the site, and nobody is told."""
    where = urlsplit(watched.url)
    with socket.create_connection((where.hostname, where.port), DEADLINE) as silent:
        silent.sendall(b"GET /met")
        for data in (b"", b"\x00\xff\r\n\r\n", b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"):
            sock = socket.create_connection((where.hostname, where.port), DEADLINE)
            sock.sendall(data)
            reset(sock)
        assert ask(watched.url)[0].status == 200
        assert watched.server.request("/")[0].status == 200
    assert watched.server.stderr() == ""


def test_silent_clients_are_dropped(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _Handler.timeout is not None
    monkeypatch.setattr(_Handler, "timeout", 0.1)
    with monitoring("127.0.0.1", 0, of_this_process("none", engine)) as url:
        where = urlsplit(url)
        with socket.create_connection((where.hostname, where.port), DEADLINE) as silent:
            silent.sendall(b"GET /met")
            assert silent.recv(1) == b""


def test_it_ends_with_the_block(engine: str) -> None:
    snapshots = of_this_process("none", engine)
    with monitoring("127.0.0.1", 0, snapshots) as url:
        assert ask(url)[0].status == 200
    with pytest.raises(ConnectionRefusedError):
        ask(url)


def test_what_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Mapping[int, Mapping[str, object]]:
        raise ValueError("no snapshot")

    with monitoring("127.0.0.1", 0, broken) as url:
        assert ask(url)[0].status == 500
        assert ask(url, "/tclchan/")[0].status == 200
    assert "no snapshot" in caplog.text


def test_ipv6(engine: str) -> None:
    if not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("this machine has no IPv6")
    with monitoring("::1", 0, of_this_process("none", engine)) as url:
        assert re.fullmatch(r"http://\[::1\]:\d+/metrics", url)
        assert ask(url)[0].status == 200


def test_port_in_use(cli: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = cli("httpd", "--root", str(SITE), "--port", "0", "--metrics", port)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "tclchan: error: couldn't open socket: address already in use "
        f"(127.0.0.1 port {port}, for the metrics)\n"
    )


def test_without_the_package(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from tclchan._cli import main; sys.exit(main(sys.argv[1:]))\n"
    )
    arguments = ["httpd", "--root", str(SITE), "--port", "0", "--metrics", "0"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert 'prometheus_client is not installed: "pip install tclchan[metrics]"' in done.stderr
