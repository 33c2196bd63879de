"""The example site in a real browser, headless Chromium."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from httpclient import Server, serve

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")


def browse(server: Server, page: str, profile: Path, *flags: str) -> str:
    return subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *flags, server.url + page],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout


def test_live_statistics(engine: str, tmp_path: Path) -> None:
    artifacts = Path(os.environ.get("TCLCHAN_ARTIFACTS") or tmp_path / "artifacts")
    artifacts.mkdir(parents=True, exist_ok=True)
    picture = artifacts / f"statistics-{engine}.png"
    with serve(engine, "xotcl", tmp_path) as server:
        text = browse(
            server, "stats.tml", tmp_path / "1", "--virtual-time-budget=5000", "--dump-dom"
        )
        assert re.search(rf'data-stat="engine">{engine}<', text)
        assert "Live, once a second" in text
        # The page that Tcl made has no rates: these come from the statistics fetched since.
        assert re.search(r'<section id="rates">', text)
        assert text.count('<svg class="spark"') == 4
        found = re.search(r'data-counter="bytesSent">([\d,]+)<', text)
        assert found
        assert int(found[1].replace(",", "")) > 10_000
        assert server.stats()["counters"]["accepts"] >= 2
        browse(
            server,
            "stats.tml",
            tmp_path / "2",
            "--window-size=1280,1600",
            "--virtual-time-budget=5000",
            f"--screenshot={picture}",
        )
    image = picture.read_bytes()
    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", image[16:24]) == (1280, 1600)
    assert len(image) > 50_000, "the picture is empty"


def test_start_page_names_the_engine(engine: str, tmp_path: Path) -> None:
    for name in ("xotcl", "tcllib"):
        with serve(engine, name, tmp_path) as server:
            text = browse(server, "", tmp_path / name, "--virtual-time-budget=3000", "--dump-dom")
            assert f"Sent to you by the {engine} engine, {name} in front of it" in text
