"""The page that draws the metrics, in headless Chromium."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import re
import struct
import subprocess
import threading
from pathlib import Path

import pytest
from httpclient import Server, serve
from test_browser import CHROMIUM, FLAGS
from test_metrics import metrics_url

import tclchan
from tclchan._monitor import monitoring

PATIENCE_S = 150
ARTIFACTS = Path(os.environ["TCLCHAN_ARTIFACTS"]) if "TCLCHAN_ARTIFACTS" in os.environ else None

pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed"),
    pytest.mark.timeout(2 * PATIENCE_S + 60),
]


def browse(url: str, profile: Path, *flags: str) -> str:
    return subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *flags, url],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    ).stdout


def curves(text: str) -> dict[str, list[str]]:
    """The points of all curves, by the title of the chart and the name of the curve."""
    found = {}
    for title, chart in re.findall(r"<h2>([^<]+)</h2>(.*?)</section>", text, re.DOTALL):
        for path, name, points in re.findall(
            r'<path class="line" d="([^"]*)"[^>]* data-line="([^"]+)" data-points="(\d+)"', chart
        ):
            found[f"{title}: {name}"] = re.findall(r"[ML][\d.]+ ([\d.]+)", path)
            assert len(found[f"{title}: {name}"]) == int(points)
    return found


def visit(server: Server, stop: threading.Event) -> None:
    while not stop.wait(0.02):
        server.request("/icon.png")


def test_page(engine: str, tmp_path: Path) -> None:
    picture = (ARTIFACTS or tmp_path) / f"page-{engine}.png"
    stop = threading.Event()
    with serve(engine, "xotcl", tmp_path, "--metrics", "0") as server:
        page = metrics_url(server).removesuffix("metrics") + "tclchan/"
        visitor = threading.Thread(target=visit, args=(server, stop))
        visitor.start()
        try:
            text = browse(page, tmp_path / "1", "--virtual-time-budget=20000", "--dump-dom")
            size = (
                "--virtual-time-budget=20000",
                "--window-size=1280,1000",
                f"--screenshot={picture}",
            )
            browse(page, tmp_path / "2", *size)
        finally:
            stop.set()
            visitor.join()
        pid = server.pid
    assert re.search(r'<span id="state"[^>]* class="live">Live<', text)
    assert f"xotcl on {engine}" in text
    drawn = curves(text)
    assert set(drawn) == {
        "Connections open: Worker 1",
        "Bytes per second: Received",
        "Bytes per second: Sent",
        "Accepts per second: Worker 1",
        "Pools of receive buffers: Worker 1",
    }
    for name, points in drawn.items():
        assert len(points) >= 4, name
    for name in ("Bytes per second: Sent", "Accepts per second: Worker 1"):
        assert len(set(drawn[name])) > 1, f"{name}: nothing has happened"
    assert re.search(r'data-now="sent">[\d.]+ [kM]?B/s<', text)
    assert f"<td>{pid}</td>" in text
    shown = text[: text.index("<script>")]
    assert "NaN" not in shown
    assert "undefined" not in shown
    image = picture.read_bytes()
    assert struct.unpack(">II", image[16:24]) == (1280, 1000)
    assert len(image) > 30_000, "the picture is empty"


def test_several_workers(tmp_path: Path) -> None:
    """Worker 2 dies after 20 seconds, and another process takes its place 5 seconds later."""
    seconds = itertools.count(1)
    zero = dict.fromkeys([field.name for field in dataclasses.fields(tclchan.Stats)], 0)

    def snapshots() -> dict[int, dict[str, object]]:
        now = next(seconds)
        workers: dict[int, dict[str, object]] = {}
        for number in (1, 2, 3):
            up = now - 25 if number == 2 and now > 25 else now
            if number == 2 and 20 < now <= 25:
                continue
            wave = number * (2 + math.sin(now / 5 + number))
            counters = {
                "bytes_received": up * 10_000 * number,
                "bytes_sent": int(up * 1_000_000 * wave),
                "accepts": int(up * 20 * number),
                "pool_bytes": (1 << 20) * number,
            }
            workers[number] = {
                "pid": os.getpid() + (now > 20 and number == 2),
                "uptime": float(up),
                "server": "xotcl",
                "engine": "epoll",
                "connections": round(40 * wave),
                "counters": zero | counters,
                "restarts": int(now > 25 and number == 2),
            }
        return workers

    picture = (ARTIFACTS or tmp_path) / "page-workers.png"
    with monitoring("127.0.0.1", 0, snapshots) as url:
        page = url.removesuffix("metrics") + "tclchan/"
        text = browse(page, tmp_path / "1", "--virtual-time-budget=60000", "--dump-dom")
        seconds = itertools.count(1)
        size = ("--window-size=1280,1120", f"--screenshot={picture}")
        browse(page, tmp_path / "2", "--virtual-time-budget=60000", *size)
    drawn = curves(text)
    assert len(drawn) == 3 + 2 + 3 + 3
    assert len(drawn["Connections open: Worker 1"]) >= 50
    assert (
        len(drawn["Connections open: Worker 1"]) - len(drawn["Connections open: Worker 2"]) == 5
    ), "there is no gap"
    # A new process begins at 0: that is no negative rate, and no peak.
    accepts = drawn["Accepts per second: Worker 2"]
    assert set(accepts) == {accepts[0]}
    assert set(drawn["Accepts per second: Worker 3"]) == {"40.00"}
    assert re.search(r"<th scope=\"row\">2</th><td>\d+</td><td>[\d:]+ min</td><td>1</td>", text)


def test_a_value_just_above_the_scale_is_at_its_top(tmp_path: Path) -> None:
    """The scale of 1,000 connections goes on to 1,001."""
    zero = dict.fromkeys([field.name for field in dataclasses.fields(tclchan.Stats)], 0)
    seconds = itertools.count(1)

    def snapshots() -> dict[int, dict[str, object]]:
        now = next(seconds)
        worker = {"pid": 1, "uptime": float(now), "server": "xotcl", "engine": "epoll"}
        return {1: worker | {"connections": 1000 + now % 2, "counters": zero, "restarts": 0}}

    with monitoring("127.0.0.1", 0, snapshots) as url:
        page = url.removesuffix("metrics") + "tclchan/"
        text = browse(page, tmp_path, "--virtual-time-budget=5000", "--dump-dom")
    assert set(curves(text)["Connections open: Worker 1"]) == {"0.00"}


def test_it_needs_nothing_from_elsewhere() -> None:
    page = Path(__file__).parent.parent / "tclchan" / "page.html"
    text = page.read_text().replace("http://www.w3.org/2000/svg", "")
    assert "://" not in text
    assert not re.search(r"<(script|img|iframe)[^>]* src=|@import|url\(", text)
