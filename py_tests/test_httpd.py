"""``tclchan httpd``: what each hosted server answers, and how the command begins and ends."""

from __future__ import annotations

import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import AT_ONCE_S
from httpclient import DEADLINE, SERVERS, SITE, TCLHTTPD, Server, reset, serve, wait_for

TYPES = {
    "": "text/html",
    "how.html": "text/html",
    "style.css": "text/css",
    "stats.js": "text/javascript",
    "rings.svg": "image/svg+xml",
    "icon.png": "image/png",
}


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, engine: str, tmp_path: Path) -> Iterator[Server]:
    with serve(engine, request.param, tmp_path) as hosted:
        yield hosted


@pytest.fixture
def default(engine: str, tmp_path: Path) -> Iterator[Server]:
    with serve(engine, "xotcl", tmp_path) as hosted:
        yield hosted


def cli(engine: str, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tclchan", "httpd", *arguments],
        env={**os.environ, "TCLCHAN_ENGINE": engine},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )


def test_site(server: Server) -> None:
    for path, media in TYPES.items():
        response, body = server.request(f"/{path}")
        assert response.status == 200, path
        if server.server == "tclhttpd" and path.endswith(".js"):
            media = "application/x-javascript"  # From its own list of types.
        assert response.headers.get_content_type() == media, path
        assert body == (SITE / (path or "index.html")).read_bytes(), path
        assert int(response.headers["Content-Length"]) == len(body), path
        if media.startswith("text/") and server.server != "tclhttpd":
            assert response.headers.get_content_charset() == "utf-8", path


def test_a_request_that_comes_in_parts(server: Server) -> None:
    request = b"GET /style.css HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with server.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(request), 3):
            sock.sendall(request[start : start + 3])
            # Whoever has answered this one has looked at that part as well.
            assert server.request("/how.html")[0].status == 200
            if start + 3 < len(request):
                assert select.select([sock], [], [], 0)[0] == []
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert b" 200 " in answer.split(b"\n")[0]
    assert answer.count(b"HTTP/1.") == 1
    assert answer.endswith((SITE / "style.css").read_bytes())


def test_links_lead_somewhere(server: Server) -> None:
    for page in ("index.html", "how.html", "stats.tml"):
        text = server.request(f"/{page}")[1].decode()
        assert "://" not in re.sub(r'xmlns="[^"]*"', "", text), "a page asks another machine"
        for link in set(re.findall(r'(?:href|src)="([^"]+)"', text)):
            assert server.request(f"/{link}")[0].status == 200, f"{page}: {link}"


def test_page_made_by_tcl(server: Server, engine: str) -> None:
    response, body = server.request("/stats.tml")
    assert response.status == 200
    assert response.headers.get_content_type() == "text/html"
    text = body.decode()
    assert f'data-stat="engine">{engine}<' in text
    assert re.search(r'data-counter="accepts">\d+<', text)
    assert "[" not in re.sub(r"<script.*?</script>", "", text), "a command was not evaluated"


def test_statistics(server: Server, engine: str) -> None:
    response, body = server.request("/stats.json")
    assert response.headers.get_content_type() == "application/json"
    before = json.loads(body)
    assert (before["engine"], before["server"]) == (engine, server.server)
    assert before["connections"] >= 1
    server.request("/")
    after = server.stats()
    assert after["uptime"] >= before["uptime"]
    assert after["counters"]["accepts"] >= before["counters"]["accepts"] + 2
    assert after["counters"]["bytesSent"] > before["counters"]["bytesSent"]


@pytest.mark.parametrize(
    "path", ["/none", "/none/", "/none.html", "/style.css/", "/%00", "/%", "/?", "/a%2fb"]
)
def test_not_found(default: Server, path: str) -> None:
    response, body = default.request(path)
    assert response.status == (200 if path == "/?" else 404)
    assert int(response.headers["Content-Length"]) == len(body)


def test_not_found_everywhere(server: Server) -> None:
    response, body = server.request("/none/<script>alert(1)</script>")
    assert response.status == 404
    if server.server != "tclhttpd":  # It quotes the URL as it is.
        assert b"<script>" not in body


def test_head(server: Server) -> None:
    for path in ("/", "/icon.png", "/none"):
        asked, body = server.request(path)
        told, nothing = server.request(path, "HEAD")
        assert told.status == asked.status
        assert nothing == b""
        if asked.status == 200:
            assert int(told.headers["Content-Length"]) == len(body)
            assert told.headers["Content-Type"] == asked.headers["Content-Type"]


def test_if_modified_since(server: Server) -> None:
    response, _ = server.request("/style.css")
    date = response.headers["Last-Modified"]
    response, body = server.request("/style.css", If_Modified_Since=date)
    assert response.status == 304
    assert body == b""
    old = "Sun, 06 Nov 1994 08:49:37 GMT"
    response, body = server.request("/style.css", If_Modified_Since=old)
    assert response.status == 200
    assert body == (SITE / "style.css").read_bytes()
    if server.server != "tclhttpd":
        response, body = server.request("/style.css", If_Modified_Since="the other day")
        assert response.status == 200


def test_requests_on_one_connection(engine: str, tmp_path: Path) -> None:
    servers = [name for name in SERVERS if name != "tcllib"]  # It closes after each answer.
    for name in servers:
        with (
            serve(engine, name, tmp_path) as server,
            closing(http.client.HTTPConnection("127.0.0.1", server.port, DEADLINE)) as connection,
        ):
            paths = ["/", "/style.css", "/icon.png", "/none", "/stats.json"] * 40
            if name == "tclhttpd":  # It closes after 25 requests, and after an error.
                paths = [path for path in paths if path != "/none"][:20]
            connection.connect()
            local = connection.sock.getsockname()
            for path in paths:
                connection.request("GET", path)
                response = connection.getresponse()
                body = response.read()
                assert response.status == (404 if path == "/none" else 200)
                if path == "/icon.png":
                    assert body == (SITE / "icon.png").read_bytes()
                assert connection.sock.getsockname() == local


def test_pipelined_requests(default: Server) -> None:
    ask = b"GET /icon.png HTTP/1.1\r\nHost: a\r\n\r\n"
    last = b"GET /icon.png HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answer = default.raw(ask * 9 + last)
    assert answer.count((SITE / "icon.png").read_bytes()) == 10
    assert answer.count(b"Connection: close") == 1


def test_request_byte_by_byte(server: Server) -> None:
    with server.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET /style.css HTTP/1.0\r\nHost: a\r\n":
            sock.sendall(bytes([byte]))
        # tcllib and tclhttpd take a return without its line feed for the empty line, and close.
        sock.sendall(b"\r\n")
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert answer.endswith((SITE / "style.css").read_bytes())
    assert answer.count(b"\nDate: ") == 1


def test_no_answer_before_the_line_feed(default: Server) -> None:
    with default.connect() as sock:
        sock.sendall(b"GET /style.css HTTP/1.0\r\nHost: a\r\n\r")
        default.request("/")  # The server has seen the above when it has answered this.
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)
        sock.settimeout(DEADLINE)
        sock.sendall(b"\n")
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert answer.endswith((SITE / "style.css").read_bytes())


def test_line_feeds_alone_end_lines(server: Server) -> None:
    answer = server.raw(b"GET /style.css HTTP/1.0\nHost: a\n\n")
    assert answer.endswith((SITE / "style.css").read_bytes())


def test_half_closed_request(server: Server) -> None:
    answer = server.raw(b"GET /icon.png HTTP/1.0\r\n\r\n", half_close=True)
    assert answer.endswith((SITE / "icon.png").read_bytes())


OUTSIDE = [
    "/../secret.txt",
    "/sub/../../secret.txt",
    "/%2e%2e/secret.txt",
    "/sub/%2e%2e/%2e%2e/secret.txt",
    "/sub/..%2f..%2fsecret.txt",
    "/..%5csecret.txt",
    "//{secret}",
    "/{secret}",
    "/sub/%2f{secret}",
    "/~/secret.txt",
    "/~root/.profile",
    "/.hidden",
    "/sub/.hidden",
]


def test_nothing_from_outside_the_root(engine: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("SECRET")
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "index.html").write_text("hello")
    (root / "sub" / ".hidden").write_text("SECRET")
    for name in ("xotcl", "tcllib"):
        with serve(engine, name, tmp_path, root=root) as server:
            for path in OUTSIDE:
                path = path.format(secret=str(secret).lstrip("/"))
                answer = server.raw(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                assert b"SECRET" not in answer, (name, path)
                assert b" 404 " in answer.split(b"\n")[0], (name, path)


def test_directories_and_names(engine: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    odd = root / "sub" / "a b & <c> \N{GREEK SMALL LETTER ALPHA}.txt"
    odd.parent.mkdir(parents=True)
    odd.write_text("odd")
    (root / "sub" / "~tilde").write_text("tilde")
    for name in ("xotcl", "tcllib"):
        with serve(engine, name, tmp_path, root=root) as server:
            response, _ = server.request("/sub")
            assert response.status == 302
            assert response.headers["Location"] == "/sub/"
            response, body = server.request("/sub/")
            assert response.status == 200
            assert b"<c>" not in body
            links = re.findall(r'href="\./([^"]+)"', body.decode())
            assert [server.request(f"/sub/{link}")[1] for link in links] == [b"odd", b"tilde"]


@pytest.mark.parametrize("name", ["xotcl", "tcllib"])
def test_nothing_is_written(engine: str, tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with serve(engine, name, tmp_path, root=root) as server:
        assert server.request("/new.txt", "PUT", b"new")[0].status == 405
        assert server.request("/", "POST", b"a=b")[0].status == 405
        assert server.request("/new.txt", "DELETE")[0].status in (400, 405)
    assert not list(root.iterdir())


def test_failing_template(engine: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "bad.tml").write_text("before [error {no <luck>}] after")
    for name in ("xotcl", "tcllib"):
        with serve(engine, name, tmp_path, root=root) as server:
            response, body = server.request("/bad.tml")
            assert response.status == 500
            assert b"luck" in body
            assert server.request("/bad.tml")[0].status == 500


def test_clients_that_reset(server: Server) -> None:
    # The first file that is sent has the driver make a pipe, which it keeps for the next.
    assert server.request("/icon.png")[0].status == 200
    before = server.at_rest()
    for step in range(60):
        sock = server.connect()
        if step % 3:
            sock.sendall(b"GET /icon.png HTTP/1.1\r\n" + b"Host: a\r\n\r\n" * (step % 2))
        reset(sock)
    wait_for(lambda: server.holdings() == before, what=f"{before}, {server.holdings()}")
    if server.server != "tclhttpd":
        assert server.stderr() == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals(engine: str, tmp_path: Path, number: int) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "index.html").write_text("hello")
    with (root / "large.bin").open("wb") as large:
        large.truncate(50_000_000)  # More than the buffers of a connection hold.
    for name in SERVERS:
        with serve(engine, name, tmp_path, "--grace", "0", root=root) as server:
            # One client is idle, one is in the midst of its request, one does not read its answer.
            with server.connect(), server.connect() as second, server.connect(4096) as third:
                second.sendall(b"GET / HT")
                third.sendall(b"GET /large.bin HTTP/1.0\r\n\r\n")
                assert third.recv(1, socket.MSG_PEEK) == b"H"
                server.wait_for_connections(3)
                began = time.monotonic()
                assert server.end(number, seconds=5) == 0
                assert time.monotonic() - began < AT_ONCE_S
            assert server.rest() == ""
            assert not list(tmp_path.glob("tclchan-httpd-*"))
            if name != "tclhttpd":
                assert server.stderr() == ""


def test_curl(server: Server, tmp_path: Path) -> None:
    """As a stranger would look: with a program that is not of this house."""
    for path in ("", "style.css", "icon.png"):
        file = tmp_path / "fetched"
        done = subprocess.run(
            [
                "curl",
                "-sS",
                "-m",
                str(DEADLINE),
                "-w",
                "%{http_code}",
                "-o",
                file,
                server.url + path,
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "200", "")
        assert file.read_bytes() == (SITE / (path or "index.html")).read_bytes()
    # Two on one connection, where it is kept alive; the header alone; and what is not there.
    two = [server.url + "style.css", server.url + "how.html"]
    for arguments, want in [
        (two, (SITE / "style.css").read_bytes() + (SITE / "how.html").read_bytes()),
        (["-I", two[0]], None),
        (["-f", server.url + "none.txt"], b""),
    ]:
        got = subprocess.run(
            ["curl", "-sS", "-m", str(DEADLINE), *arguments], capture_output=True, check=False
        )
        assert got.returncode == (22 if "-f" in arguments else 0), got.stderr
        if want is None:
            assert b" 200 " in got.stdout.split(b"\r\n")[0]
            assert b"\ncontent-type: text/css" in got.stdout.lower()
        else:
            assert got.stdout == want


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_that_come_again(engine: str, tmp_path: Path, number: int) -> None:
    """As from a terminal, and from the shell or make in between."""
    with serve(engine, "xotcl", tmp_path) as server:
        end = time.monotonic() + DEADLINE
        while server.process.poll() is None:
            assert time.monotonic() < end
            server.process.send_signal(number)
            time.sleep(0.001)
        assert server.process.returncode == 0, server.stderr()


def test_signals_are_for_the_main_thread(engine: str, tmp_path: Path) -> None:
    """In another one, Python's handler might go on when the interpreter is gone."""
    options = ("--metrics", "0", "--grace", "60")
    with serve(engine, "xotcl", tmp_path, *options) as server, server.connect() as sock:
        server.wait_for_connections(1)
        sock.sendall(b"GET")
        threads = Path(f"/proc/{server.pid}/task")
        before = len(list(threads.iterdir()))
        server.process.send_signal(signal.SIGTERM)
        # It waits for the rest of the request, and a thread of it for the end of its patience.
        wait_for(lambda: len(list(threads.iterdir())) > before)
        # While it starts one, the main thread takes none either.
        wait_for(lambda: {thread.name for thread in threads.iterdir() if takes_signals(thread)})
        assert [thread.name for thread in threads.iterdir() if takes_signals(thread)] == [
            str(server.pid)
        ]
        server.process.send_signal(signal.SIGTERM)


def takes_signals(thread: Path) -> bool:
    """Whether a signal of the kinds that the servers know may come in that thread."""
    try:
        text = (thread / "status").read_text()
    except OSError:  # It has ended.
        return False
    blocked = int(re.findall(r"^SigBlk:\s(\w+)$", text, re.MULTILINE)[0], 16)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    return any(not blocked >> (number - 1) & 1 for number in numbers)


def test_port_in_use(engine: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for name in SERVERS:
            tree = ["--tclhttpd", TCLHTTPD] if name == "tclhttpd" else []
            done = cli(
                engine, tmp_path, "--root", str(SITE), "--port", port, "--server", name, *tree
            )
            assert done.returncode == 1
            assert "couldn't open socket: address already in use" in done.stderr
            assert port in done.stderr
            assert "Traceback" not in done.stderr
            assert done.stdout == ""


def test_bad_arguments(engine: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    root = ("--root", str(SITE))
    for arguments, message in [
        ((), "name it with --root"),
        (("--root", "none"), '"none" does not exist'),
        (("--root", "file"), '"file" is not a directory'),
        ((*root, "--port", "65536"), 'bad port "65536": must be 0 to 65535'),
        ((*root, "--port", "-1"), 'bad port "-1": must be 0 to 65535'),
        ((*root, "--port", "x"), 'bad port "x": must be 0 to 65535'),
        ((*root, "--server", "apache"), "invalid choice"),
        ((*root, "--address", "203.0.113.1"), "couldn't open socket: cannot assign requested"),
        ((*root, "--server", "tclhttpd"), "--tclhttpd DIR"),
        ((*root, "--tclhttpd", "."), "is not a tree of tclhttpd"),
        ((*root, "--server", "xotcl", "--rc", "file"), "takes no configuration file"),
        ((*root, "--server", "tcllib", "--log-dir", "."), "tcllib keeps no logs of its own"),
        ((*root, "--engine", "kqueue"), "kqueue"),
    ]:
        done = cli(engine, tmp_path, "--port", "0", *arguments)
        assert done.returncode in (1, 2), arguments
        assert message.lower() in done.stderr.lower(), (arguments, done.stderr)
        assert "Traceback" not in done.stderr, arguments
        assert done.stdout == "", arguments


def test_missing_package_is_named(engine: str, tmp_path: Path) -> None:
    # An interpreter that finds Tcl's own library, and nothing else.
    library = subprocess.run(
        ["tclsh"], input="puts $tcl_library", text=True, capture_output=True, check=True
    ).stdout.strip()
    code = (
        "import sys, tclchan\n"
        "with tclchan.Interp(replace_socket=True) as tcl:\n"
        f"    tcl.eval('set auto_path {{{library}}}; package forget XOTcl httpd')\n"
        "    try:\n"
        f"        tclchan.serving(tcl, {str(SITE)!r}, server=sys.argv[1]).__enter__()\n"
        "    except tclchan.HttpdError as error:\n"
        "        print(error)\n"
    )
    for name, package in (("xotcl", "xotcl"), ("tcllib", "tcllib")):
        done = subprocess.run(
            [sys.executable, "-c", code, name],
            env={**os.environ, "TCLCHAN_ENGINE": engine},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        assert f'install it with "apt-get install {package}"' in done.stdout, done.stderr
