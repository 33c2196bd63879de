"""``serving``: what a site leaves behind in its interpreter, and what it refuses.

Each test has a process of its own: XOTcl never lets go of an interpreter that it was loaded into,
and so of the engine of its thread.
"""

from __future__ import annotations

import http.client
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from conftest import WINDOWS
from httpclient import DEADLINE, SERVERS, SITE, TCLHTTPD, Server, wait_for

import tclchan


def in_process(body: Callable[..., None], *args: object) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        executor.submit(body, *args).result(DEADLINE)


def options_of(name: str) -> dict[str, Any]:
    return {"tclhttpd": TCLHTTPD} if name == "tclhttpd" else {"server": name}


def get(site: tclchan.Site, path: str) -> bytes:
    with closing(http.client.HTTPConnection("127.0.0.1", site.port, timeout=DEADLINE)) as client:
        client.request("GET", path)
        return client.getresponse().read()


def run_with(interp: tclchan.Interp, client: Callable[[], object]) -> int:
    """Run the event loop until *client*, on another thread, has done its work."""

    def work() -> None:
        try:
            client()
        finally:
            interp.stop()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        return interp.run()
    finally:
        thread.join(DEADLINE)


def holdings(interp: tclchan.Interp) -> dict[str, list[str]]:
    """The channels, timers and descriptors there are; what a socket's number is does not matter."""
    descriptors = []
    for number in [] if WINDOWS else os.listdir("/proc/self/fd"):
        try:
            what = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:  # What listed them.
            continue
        descriptors.append(what.partition(":[")[0])
    return {
        "channels": sorted(interp.eval("file channels").split()),
        "timers": sorted(interp.eval("lmap id [after info] {after info $id}").split()),
        "copies": [interp.eval("interp alias {} ::fcopy")],
        "descriptors": sorted(descriptors),
    }


@contextmanager
def hosting(engine: str) -> Iterator[tclchan.Interp]:
    with tclchan.Interp(engine=engine, replace_socket=True) as interp:
        # What Tcl opens once for the life of a process, and a timer that is none of a server's.
        interp.eval("after 0 {set started 1}; vwait started; after 3600000 {set mine 1}")
        interp.eval("close [socket -server {} -myaddr 127.0.0.1 0]; update")
        yield interp


def same(interp: tclchan.Interp, before: dict[str, list[str]]) -> None:
    """Connections that their clients have closed may take a turn of the event loop."""
    wait_for(
        lambda: interp.eval("update; string cat yes") and holdings(interp) == before,
        what=f"{before}, now {holdings(interp)}",
    )


def give_back(engine: str, name: str, logs: Path | None) -> None:
    with hosting(engine) as tcl:
        before = holdings(tcl)
        access = logs / "access" if logs else None
        options = {"access_log": access, **options_of(name)}
        if name != "tcllib":  # Which writes none.
            options["log_dir"] = logs
        with tclchan.serving(tcl, SITE, **options) as site:
            idle = socket.create_connection(("127.0.0.1", site.port), DEADLINE)
            assert run_with(tcl, lambda: [get(site, "/"), get(site, "/stats.tml")]) == 0
            assert holdings(tcl) != before
        with idle:
            assert idle.recv(1) == b""
        same(tcl, before)
        if access:
            assert access.read_text().count("\n") == 2


@pytest.mark.parametrize("name", SERVERS)
def test_all_is_given_back(engine: str, tmp_path: Path, name: str) -> None:
    in_process(give_back, engine, name, None)
    in_process(give_back, engine, name, tmp_path)
    kept = [file for file in tmp_path.iterdir() if file.stat().st_size and file.name != "access"]
    assert bool(kept) == (name != "tcllib")


def fail_to_start(engine: str, name: str) -> None:
    with hosting(engine) as tcl, socket.create_server(("127.0.0.1", 0)) as taken:
        before = holdings(tcl)
        for _ in range(1 if name == "tclhttpd" else 3):
            with (
                pytest.raises(tclchan.HttpdError, match="address already in use"),
                tclchan.serving(tcl, SITE, port=taken.getsockname()[1], **options_of(name)),
            ):
                pytest.fail("the port was taken")
            same(tcl, before)
        if name != "tclhttpd":
            with tclchan.serving(tcl, SITE, **options_of(name)) as site:
                run_with(tcl, lambda: get(site, "/"))


@pytest.mark.parametrize("name", SERVERS)
def test_all_is_given_back_when_it_does_not_start(engine: str, name: str) -> None:
    in_process(fail_to_start, engine, name)


def follow(engine: str) -> None:
    with hosting(engine) as tcl:
        for name in [name for name in SERVERS if name != "tclhttpd"] * 2:
            with tclchan.serving(tcl, SITE, server=name) as site:
                bodies: list[bytes] = []
                run_with(tcl, partial(lambda site, to: to.append(get(site, "/")), site, bodies))
                assert bodies == [(SITE / "index.html").read_bytes()]
            before = holdings(tcl)
            with tclchan.serving(tcl, SITE, server=name):
                pass
            same(tcl, before)


def test_one_after_the_other(engine: str) -> None:
    in_process(follow, engine)


def nest(engine: str) -> None:
    with hosting(engine) as tcl, tclchan.serving(tcl, SITE) as site:
        before = holdings(tcl)
        for name in SERVERS:
            with (
                pytest.raises(tclchan.HttpdError, match=r"serves a site already .*another Interp"),
                tclchan.serving(tcl, SITE, **options_of(name)),
            ):
                pytest.fail("there is one already")
        assert holdings(tcl) == before
        bodies: list[bytes] = []
        run_with(tcl, lambda: bodies.append(get(site, "/")))
        assert bodies == [(SITE / "index.html").read_bytes()]


def test_one_at_a_time(engine: str) -> None:
    in_process(nest, engine)


def ask_by_other_names(engine: str, name: str, root: Path) -> None:
    others = ["PAGE.TML", "Page", "page.tml.", "page.tml%20", "page.tml::$DATA", "SUB/", "sub/FILE"]
    statuses: dict[str, int] = {}

    def ask(site: tclchan.Site) -> None:
        for path in ["page.tml", "page", "sub/", "sub/file", *others]:
            with closing(http.client.HTTPConnection("127.0.0.1", site.port, DEADLINE)) as client:
                client.request("GET", f"/{path}")
                statuses[path] = client.getresponse().status

    with hosting(engine) as tcl, tclchan.serving(tcl, root, server=name) as site:
        run_with(tcl, lambda: ask(site))
    assert statuses == {path: 404 if path in others else 200 for path in statuses}


@pytest.mark.parametrize("name", [name for name in SERVERS if name != "tclhttpd"])
def test_a_file_is_found_by_its_own_name(engine: str, tmp_path: Path, name: str) -> None:
    """Windows knows it by others, too."""
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "page.tml").write_text("a page")
    (root / "sub/file").write_text("a file")
    in_process(ask_by_other_names, engine, name, root)


def serve_with_the_core(engine: str, name: str) -> None:
    with tclchan.Interp(engine=engine) as tcl:
        channels = tcl.eval("file channels")
        with (
            pytest.raises(tclchan.HttpdError, match=r"Interp\(replace_socket=True\)"),
            tclchan.serving(tcl, SITE, idle_timeout=5, **options_of(name)),
        ):
            pytest.fail("its sockets know no options")
        assert tcl.eval("file channels") == channels


@pytest.mark.parametrize("name", SERVERS)
def test_it_takes_the_driver(engine: str, name: str) -> None:
    """What is promised of connections would hold for none of Tcl's own."""
    in_process(serve_with_the_core, engine, name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"root": ""}, "the name of the root is empty"),
        ({"root": SITE, "log_dir": ""}, "the name of the log directory is empty"),
        ({"root": SITE, "access_log": ""}, "the name of the access log is empty"),
        ({"tclhttpd": ""}, "the name of the tclhttpd tree is empty"),
        ({"root": SITE, "address": ""}, "the address is empty"),
    ],
)
def test_empty_names(interp: tclchan.Interp, options: dict[str, Any], message: str) -> None:
    """What a variable that was not set leaves is neither the current directory nor a default."""
    with pytest.raises(tclchan.HttpdError, match=message), tclchan.serving(interp, **options):
        pytest.fail("there is no such thing")


@pytest.mark.posix("names are UTF-16 there")
def test_names_that_are_not_utf_8(interp: tclchan.Interp) -> None:
    """Tcl would take them for others."""
    name = os.fsdecode(b"bad\xff")
    options: dict[str, Any]
    for options in ({"root": name}, {"root": SITE, "access_log": name}):
        with (
            pytest.raises(tclchan.HttpdError, match=r'/bad\\xff" cannot be used: its name is not'),
            tclchan.serving(interp, **options),
        ):
            pytest.fail("there is no such thing")


def time_out_soon(engine: str) -> None:
    with (
        hosting(engine) as tcl,
        tclchan.serving(tcl, SITE, idle_timeout=0.0004, request_timeout=0.0004),
    ):
        (listener,) = tcl.eval("::tclchan::httpd::listeners").split()
        for option in ("-idletimeout", "-requesttimeout"):
            assert tcl.eval(f"fconfigure {listener} {option}") == "1"


def test_a_short_time_is_not_for_ever(engine: str) -> None:
    """The driver counts milliseconds, and takes 0 for no limit."""
    in_process(time_out_soon, engine)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_is_none(interp: tclchan.Interp, port: int) -> None:
    with (
        pytest.raises(tclchan.HttpdError, match=f"bad port {port}: must be 0 to 65535"),
        tclchan.serving(interp, SITE, port=port),
    ):
        pytest.fail("it is no port")


def start_twice(engine: str) -> None:
    with hosting(engine) as tcl:
        with tclchan.serving(tcl, SITE, tclhttpd=TCLHTTPD):
            pass
        before = holdings(tcl)
        with (
            pytest.raises(tclchan.HttpdError, match=r"in this interpreter before.*another Interp"),
            tclchan.serving(tcl, SITE, tclhttpd=TCLHTTPD),
        ):
            pytest.fail("it had been started")
        assert holdings(tcl) == before
        with tclchan.serving(tcl, SITE) as site:
            run_with(tcl, lambda: get(site, "/"))
    with hosting(engine) as tcl:
        with tclchan.serving(tcl, SITE, server="tcllib"):
            pass
        with (
            pytest.raises(tclchan.HttpdError, match="the same name: it takes another Interp"),
            tclchan.serving(tcl, SITE, tclhttpd=TCLHTTPD),
        ):
            pytest.fail("the names of their packages are one")


@pytest.mark.posix("without XOTcl, no server can follow tclhttpd")
@pytest.mark.skipif(not TCLHTTPD, reason="TCLHTTPD does not name a tree of tclhttpd's sources")
def test_tclhttpd_starts_once(engine: str) -> None:
    in_process(start_twice, engine)


def exit_in_a_page(engine: str, name: str, root: Path) -> None:
    with hosting(engine) as tcl:
        before = holdings(tcl)
        with (
            tclchan.serving(tcl, root, **options_of(name)) as site,
            socket.create_connection(("127.0.0.1", site.port), DEADLINE) as client,
        ):
            client.sendall(b"GET /end.tml HTTP/1.0\r\n\r\n")
            assert tcl.run() == 7
        same(tcl, before)


def page_that_exits(directory: Path) -> Path:
    root = directory / "root"
    root.mkdir()
    (root / "end.tml").write_text("before [exit 7] after")
    return root


@pytest.mark.parametrize("name", SERVERS)
def test_exit_in_a_page(engine: str, tmp_path: Path, name: str) -> None:
    """The code is what ``run`` returns."""
    in_process(exit_in_a_page, engine, name, page_that_exits(tmp_path))


@pytest.mark.posix("nothing ends such a process well")
@pytest.mark.parametrize("name", SERVERS)
def test_exit_in_a_page_of_a_process(engine: str, tmp_path: Path, name: str) -> None:
    """The code is what the command ends with."""
    root = page_that_exits(tmp_path)
    server = Server(engine, name, tmp_path, root=root)
    try:
        server.raw(b"GET /end.tml HTTP/1.0\r\n\r\n")
        assert server.process.wait(DEADLINE) == 7
    finally:
        server.end(signal.SIGKILL)
    assert server.rest() == ""
