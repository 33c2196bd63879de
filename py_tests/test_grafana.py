"""The dashboard for Grafana: its queries are put to a real Prometheus that watches a server."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, lacking
from httpclient import DEADLINE, Server, serve, wait_for
from test_metrics import ask, metrics_url

import tclchan

GRAFANA = ROOT / "examples" / "grafana"
DASHBOARD: dict[str, Any] = json.loads((GRAFANA / "tclchan.json").read_text())


def program(name: str) -> str:
    """A program of Prometheus, from where the set-up has put it or from the system."""
    found = shutil.which(name, path=f"{ROOT}/build/prometheus/usr/bin:{os.environ['PATH']}")
    if found is None:
        lacking(f"no {name}: it is not installed, and could not be fetched")
    return found


def queries() -> list[tuple[str, str]]:
    """The title of a panel, and a query of it."""
    return [
        (panel["title"], target["expr"])
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    ]


def filled_in(expression: str) -> str:
    """What Grafana makes of a query, with all jobs and instances chosen."""
    values = {"$__rate_interval": "4s", "$job": ".*", "$instance": ".*"}
    for variable, value in values.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return expression


class Prometheus:
    """A Prometheus that watches one server."""

    def __init__(self, url: str, directory: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        target = urllib.parse.urlsplit(url).netloc
        # As in the example, but for the address and the time between two looks.
        text = (GRAFANA / "prometheus.yml").read_text()
        text, count = re.subn(r"127\.0\.0\.1:\d+", target, text.split("\n\n")[1])
        assert count == 1
        configuration = directory / "prometheus.yml"
        configuration.write_text(text.replace("scrape_interval: 5s", "scrape_interval: 500ms"))
        self.log = directory / "prometheus.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    program("prometheus"),
                    f"--config.file={configuration}",
                    f"--storage.tsdb.path={directory / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                cwd=directory,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API; None while it does not listen yet."""
        assert self.process.poll() is None, self.log.read_text()
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=DEADLINE) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            if error.code == 503:
                return None
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error
        except urllib.error.URLError:
            return None
        assert answer["status"] == "success", answer
        return answer["data"]

    def is_up(self) -> bool:
        data = self.get("targets")
        return bool(data) and [t["health"] for t in data["activeTargets"]] == ["up"]

    def wait_for(self, query: str) -> list[dict[str, Any]]:
        """The series of the first result of *query* that has any."""
        result: list[dict[str, Any]] = wait_for(
            lambda: (self.get("query", query=query) or {"result": []})["result"], what=query
        )
        return result

    def end(self) -> None:
        self.process.terminate()
        assert self.process.wait(DEADLINE) == 0, self.log.read_text()


@contextmanager
def watching(url: str, directory: Path) -> Iterator[Prometheus]:
    prometheus = Prometheus(url, directory)
    try:
        wait_for(prometheus.is_up, what="the target is up")
        yield prometheus
    finally:
        prometheus.end()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """On any engine: it is not about that."""
    engine = next(info.name for info in tclchan.engines() if info.usable)
    with serve(engine, "xotcl", tmp_path, "--metrics", "0") as hosted:
        yield hosted


def test_queries(server: Server, tmp_path: Path) -> None:
    program("prometheus")
    with watching(metrics_url(server), tmp_path) as prometheus:
        for title, expression in queries():
            server.request("/icon.png")
            # A rate takes two looks at the server.
            for series in prometheus.wait_for(filled_in(expression)):
                assert float(series["value"][1]) >= 0, (title, expression)
        sent = filled_in("sum(rate(tclchan_sent_bytes_total[$__rate_interval]))")

        def rate() -> float:
            server.request("/icon.png")
            return float(prometheus.wait_for(sent)[0]["value"][1])

        assert wait_for(rate) > 0
        for variable in DASHBOARD["templating"]["list"]:
            if variable["type"] == "query":
                found = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"])
                assert found
                (series,) = prometheus.wait_for(filled_in(found[1]))
                assert series["metric"][found[2]]


def test_names_are_those_of_the_metrics(server: Server) -> None:
    """As the test above, where there is no Prometheus."""
    text = ask(metrics_url(server))[1].decode()
    named = {name for _, query in queries() for name in re.findall(r"tclchan_\w+", query)}
    assert len(named) > 15
    for name in named:
        assert re.search(rf'^{name}{{.*worker="1".*}} ', text, re.MULTILINE), name


def test_metrics_are_as_prometheus_wants_them(server: Server) -> None:
    text = ask(metrics_url(server))[1]
    done = subprocess.run(
        [program("promtool"), "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, b"", b"")


def test_layout() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places: set[tuple[int, int]] = set()
    for panel in panels:
        box = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(box["x"], box["x"] + box["w"])
            for y in range(box["y"], box["y"] + box["h"])
        }
        assert not cells & places, panel["title"]
        assert max(x for x, _ in cells) < 24
        places |= cells
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
