"""examples/cluster: servers behind HAProxy, of which some die while they are asked."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from httpclient import DEADLINE, SITE, Child, wait_for

CLUSTER = SITE.parent / "cluster" / "cluster.py"
CLIENTS = 6
MORE = 100

pytestmark = pytest.mark.skipif(
    shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin") is None,
    reason="haproxy is not installed",
)


class Load:
    """Clients that ask for a file over and over, each request on a connection of its own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.body = (SITE / "style.css").read_bytes()
        self.answers = 0
        self.failures: list[Exception] = []
        self.done = False
        self.threads = [threading.Thread(target=self.run) for _ in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def run(self) -> None:
        while not self.done:
            try:
                with closing(
                    http.client.HTTPConnection("127.0.0.1", self.port, DEADLINE)
                ) as connection:
                    connection.request("GET", "/style.css")
                    response = connection.getresponse()
                    assert (response.status, response.read()) == (200, self.body)
                    self.answers += 1
            except Exception as error:
                self.failures.append(error)

    def wait_for_more(self) -> None:
        enough = self.answers + MORE
        wait_for(lambda: self.answers >= enough)

    def end(self) -> None:
        self.done = True
        for thread in self.threads:
            thread.join()


def test_servers_that_die_under_load(engine: str, tmp_path: Path) -> None:
    child = Child([sys.executable, "-P", str(CLUSTER), str(SITE), "0"], engine, tmp_path)
    try:
        line = child.line()
        found = re.fullmatch(
            r"serving .* at http://127\.0\.0\.1:(\d+)/ \(processes (\d+) (\d+) (\d+)\)", line
        )
        assert found, line
        load = Load(int(found[1]))
        try:
            load.wait_for_more()
            for pid in (int(found[2]), int(found[3])):
                os.kill(pid, signal.SIGKILL)
                assert re.fullmatch(r"started again: process \d+", child.line())
                load.wait_for_more()
        finally:
            load.end()
        # What had no answer yet got one elsewhere. An answer that had begun breaks off: HAProxy
        # has passed its beginning on already.
        assert len(load.failures) <= 2 * CLIENTS, load.failures
        assert {type(error) for error in load.failures} <= {http.client.IncompleteRead}
    finally:
        code = child.end()
    assert code == 0, child.stderr()
    assert "Traceback" not in child.stderr()


def test_it_says_how_to_run_it() -> None:
    assert "python examples/cluster/cluster.py" in CLUSTER.read_text()
