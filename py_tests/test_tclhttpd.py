"""A real tclhttpd, unmodified, on the driver. TCLHTTPD names a tree of its sources (3.5.2).

What is asked for here is what its own pages and its own handlers do with sockets: see also
test_httpd.py and test_httpd_downloads.py, which run with it too then.
"""

from __future__ import annotations

import base64
import filecmp
import os
import re
import shutil
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from httpclient import DEADLINE, TCLHTTPD, Server, reset, serve, wait_for
from test_logs import wait_for_entries

pytestmark = pytest.mark.skipif(
    not TCLHTTPD, reason="TCLHTTPD does not name a tree of tclhttpd's sources"
)

TREE = Path(TCLHTTPD)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    directory = tmp_path / "logs"
    directory.mkdir()
    return directory


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """A copy of its own pages, and a file that has every byte in it."""
    docs = tmp_path / "htdocs"
    shutil.copytree(TREE / "htdocs", docs)
    (docs / "bytes.bin").write_bytes(bytes(range(256)) * 400)
    return docs


@pytest.fixture
def server(engine: str, tmp_path: Path, docs: Path, logs: Path) -> Iterator[Server]:
    with serve(engine, "tclhttpd", tmp_path, "--log-dir", str(logs), root=docs) as hosted:
        yield hosted


def error_log(logs: Path) -> str:
    return "".join(file.read_text() for file in logs.glob("*error"))


def password(server: Server) -> str:
    found = re.search(r'user "debug" password "(.*)"', server.stderr())
    assert found
    return "Basic " + base64.b64encode(f"debug:{found[1]}".encode()).decode()


def squeezed(text: bytes) -> bytes:
    return b" ".join(text.split()).replace(b"> <", b"><")


def post(server: Server, path: str, body: bytes, **headers: str) -> bytes:
    form = "application/x-www-form-urlencoded"
    response, answer = server.request(path, "POST", body, Content_Type=form, **headers)
    assert response.status == 200, (path, response.status, answer)
    return answer


def test_pages(server: Server, docs: Path, logs: Path) -> None:
    for path, status, text in [
        ("/", 200, b"<title>TclHttpd Home Page</title>"),
        ("/index.tml", 200, b"<title>TclHttpd Home Page</title>"),
        ("/images/", 200, b"<TITLE>Listing of Directory /images/</TITLE>"),
        ("/images", 302, b'moved to a new <a href="/images/">location</a>'),
        ("/learn/", 200, b"<title>TclHttpd Lesson Book</title>"),
        ("/include.shtml", 200, b"This file is:\n" + str(docs).encode() + b"/include.shtml"),
        ("/forms/", 200, b"<title>CGI Examples</title>"),
        ("/hello/there", 200, b"Hello, World!"),
        ("/guestbook/", 200, b"<TITLE>Listing of Directory /guestbook/</TITLE>"),
        ("/templates/simple.subst", 200, b"<h2>The time is " + time.strftime("%a %b").encode()),
        ("/cgi-bin/hello.cgi", 200, b"<h1>Hello</h1>"),
        ("/cgi-bin/env.cgi?a=1", 200, b"<td>QUERY_STRING</td><td>a=1</td>"),
        ("/cgi-bin/test.cgi?name=value", 200, b"<td>name</td> <td>value</td>"),
        ("/cgi-bin/redirect.cgi", 302, b'Please go to <a href="%s">' % server.url.encode()),
        ("/cgi-bin/flip.cgi", 200, b"<h1>Coin Flip</h1>"),
        ("/status", 401, b"<TITLE>401 Authorization Required</TITLE>"),
        ("/debug", 401, b"<TITLE>401 Authorization Required</TITLE>"),
        ("/admin", 403, b"Permission denied"),
        ("/nothing/here", 200, b"<h1>URL:/nothing/here<br>Not Found</h1>"),
    ]:
        response, body = server.request(path)
        assert response.status == status, (path, response.status, body[:300])
        assert squeezed(text) in squeezed(body), (path, body)
    assert server.request("/empty.html")[1] == (docs / "empty.html").read_bytes()
    assert server.request("/images")[0].headers["Location"] == "/images/"
    log = error_log(logs).replace("Error 403 /admin", "")
    assert "error" not in log.lower(), log


def test_binary_file(server: Server) -> None:
    response, body = server.request("/bytes.bin")
    assert response.status == 200
    assert body == bytes(range(256)) * 400
    response, body = server.request("/bytes.bin", "HEAD")
    assert (response.status, body) == (200, b"")
    assert response.headers["Content-Length"] == "102400"
    date = response.headers["Last-Modified"]
    response, body = server.request("/bytes.bin", If_Modified_Since=date)
    assert (response.status, body) == (304, b"")


def test_cgi_post(server: Server) -> None:
    body = squeezed(post(server, "/cgi-bin/test.cgi", b"name=value&more=a+b"))
    assert b"<td>name</td><td>value</td>" in body
    assert b"<td>more</td><td>a b</td>" in body
    assert b"<td>CONTENT_LENGTH</td><td>19</td>" in body
    sides = {squeezed(post(server, "/cgi-bin/flip.cgi", b"a=1"))[-5:] for _ in range(3)}
    assert sides <= {b"heads", b"tails"}


def test_guestbook(server: Server) -> None:
    """CGI programs that keep what they were sent."""
    book = "/guestbook/guestbook.cgi"
    assert b"No registered guests, yet." in server.request(book)[1]
    body = post(server, "/guestbook/newguest.cgi", b"name=Ann&url=http://a.example/&html=Hi+there")
    assert b"<title>Guestbook Registration Confirmed</title>" in body
    body = server.request(book)[1]
    assert b'<a href="http://a.example/">Ann</a>' in body
    assert b"Hi there" in body


class MailServer(socketserver.StreamRequestHandler):
    """As much of SMTP as it takes to be given a letter."""

    letters: ClassVar[list[bytes]] = []

    def handle(self) -> None:
        self.wfile.write(b"220 here\r\n")
        for line in self.rfile:
            if line.upper().startswith(b"DATA"):
                self.wfile.write(b"354 go on\r\n")
                lines = iter(self.rfile.readline, b".\r\n")
                self.letters.append(b"".join(lines))
            self.wfile.write(b"250 well\r\n")
            if line.upper().startswith(b"QUIT"):
                return


def test_mail(engine: str, tmp_path: Path, logs: Path) -> None:
    """Its page for forms is a client, too: it sends what it was sent, and says how that went."""
    MailServer.letters.clear()
    library, rc = tmp_path / "library", tmp_path / "mail.rc"
    library.mkdir()
    rc.write_text(f"Config MailServer 127.0.0.1\nConfig library {{{library}}}\n")
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), MailServer) as smtp:
        # Its own configuration has no place for a port.
        (library / "port.tcl").write_text(
            "rename ::smtp::sendmessage ::smtp::to_port_25\n"
            "proc ::smtp::sendmessage args {\n"
            f"    ::smtp::to_port_25 {{*}}$args -usetls 0 -ports {smtp.server_address[1]}\n"
            "}\n"
        )
        thread = threading.Thread(target=smtp.serve_forever)
        thread.start()
        try:
            options = ("--log-dir", str(logs), "--rc", str(rc))
            with serve(engine, "tclhttpd", tmp_path, *options, root=None) as server:
                form = (
                    "sendto=ann@example.org&subject=A+form&href=/&label=Home&email=bob@example.org"
                )
                body = post(server, "/mail/forminfo", f"{form}&colour=red".encode())
                assert b"<b>Thank You!</b>" in body
                assert b'<a href="/">Home</a>' in body
                told = "/mail/bugreport?email=ann@example.org&errorInfo=an+error"
                assert b"Mailed report to <b>ann@example.org</b>" in server.request(told)[1]
        finally:
            smtp.shutdown()
            thread.join()
    letter, report = MailServer.letters
    assert b"Subject: A form" in letter
    assert b"Data colour red" in letter
    assert b"an error" in report
    assert "error" not in error_log(logs).lower(), error_log(logs)


def test_password_and_forms(server: Server, logs: Path) -> None:
    authorization = password(server)
    for path, text in [
        ("/debug/pvalue?aname=tcl_platform", b"machine"),
        ("/status/", b"<title>Tcl HTTPD Status</title>"),
        ("/status/", b"<td>Sockets open:</td>"),
        ("/status/text", b"Hour merge has not occurred"),
    ]:
        response, body = server.request(path, Authorization=authorization)
        assert response.status == 200, path
        assert text in body, (path, body)
    assert server.request("/status", Authorization="Basic AAAA")[0].status == 401
    body = post(server, "/debug/echo", b"title=T&a=1", Authorization=authorization)
    assert b"<td>a</td><td>1</td>" in squeezed(body), body
    much = b"title=T&a=" + b"x" * 3_000_000
    assert b"x" * 3_000_000 in post(server, "/debug/echo", much, Authorization=authorization)
    assert "error" not in error_log(logs).lower(), error_log(logs)


def test_clients_that_reset(server: Server, logs: Path) -> None:
    # The first file that is sent has the driver make a pipe, which it keeps for the next.
    assert server.request("/bytes.bin")[0].status == 200
    before = server.at_rest()
    for step in range(200):
        sock = server.connect()
        if step % 4 == 1:
            sock.sendall(b"GET /bytes.bin HTT")
        elif step % 4 == 2:
            sock.sendall(b"GET /bytes.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        elif step % 4 == 3:
            sock.sendall(b"POST /debug/echo HTTP/1.1\r\nContent-Length: 1000\r\n\r\nabc")
        reset(sock)
    wait_for(lambda: server.holdings() == before, what=f"{before}, now {server.holdings()}")
    log = error_log(logs)
    assert "read error" not in log, log
    assert "bgerror" not in log, log


def test_short_post(server: Server) -> None:
    """A body that ends too soon ends the request, and does not spin."""
    answer = server.raw(
        b"POST /forms/posttest.tml HTTP/1.0\r\nContent-Length: 1000\r\n\r\nabc", half_close=True
    )
    assert len(answer) < 10_000
    assert server.request("/empty.html")[0].status == 200


def test_own_pages_and_tree_untouched(engine: str, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in TREE.rglob("*")}
    with serve(engine, "tclhttpd", tmp_path, root=None) as server:
        assert server.banner.startswith(f"serving {TREE}/htdocs at ")
        for path in ("/", "/index.html", "/learn/", "/cgi-bin/hello.cgi", "/stats.json"):
            assert server.request(path)[0].status == 200
    assert {path: path.stat().st_mtime_ns for path in TREE.rglob("*")} == before


def test_output_to_a_file_is_kept(engine: str, tmp_path: Path) -> None:
    """Its CGI programs are started with 2> /dev/stdout, which would empty a regular file."""
    output = tmp_path / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "tclchan", "httpd", "--port", "0", "--tclhttpd", TCLHTTPD],
            stdout=file,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            cwd=tmp_path,
            env={**os.environ, "TCLCHAN_ENGINE": engine},
        )
    try:
        ports = wait_for(lambda: re.findall(r"http://127.0.0.1:(\d+)/.*\n", output.read_text()))
        with socket.create_connection(("127.0.0.1", int(ports[0])), DEADLINE) as sock:
            sock.sendall(b"GET /cgi-bin/hello.cgi HTTP/1.0\r\n\r\n")
            assert b"Hello" in b"".join(iter(lambda: sock.recv(65536), b""))
        assert output.read_text().startswith("serving ")
    finally:
        process.terminate()
        assert process.wait(DEADLINE) == 0


def test_threads(engine: str, tmp_path: Path) -> None:
    with serve(engine, "tclhttpd", tmp_path, "--", "-threads", "2", root=None) as server:
        for _ in range(10):
            for path in ("/", "/cgi-bin/hello.cgi", "/hello/there", "/empty.html"):
                assert server.request(path)[0].status == 200, (path, server.stderr())
        assert server.request("/stats.json")[0].status == 200


def test_virtual_host(engine: str, tmp_path: Path) -> None:
    docs = tmp_path / "other"
    docs.mkdir()
    (docs / "index.html").write_text("the other host")
    rc = tmp_path / "other.rc"
    # The interpreter of a virtual host has no fileutil package.
    shipped = (TREE / "bin/tclhttpd.rc").read_text().replace("[::fileutil::tempdir]", str(tmp_path))
    rc.write_text(
        shipped + f"\nConfig docRoot {{{docs}}}\nConfig LogFile {{{tmp_path}/other-log}}\n"
    )
    with serve(
        engine, "tclhttpd", tmp_path, "--", "-virtual", f"other.test {rc}", root=None
    ) as server:
        assert b"Tcl Web Server" in server.request("/")[1]
        assert server.request("/", Host="other.test")[1] == b"the other host"


@pytest.mark.parametrize("threads", [0, 2])
def test_access_log(engine: str, tmp_path: Path, threads: int) -> None:
    """Of what its CGI programs, its worker threads and its virtual hosts answer, too."""
    log, docs, rc = tmp_path / "access.log", tmp_path / "other", tmp_path / "other.rc"
    docs.mkdir()
    (docs / "index.html").write_text("the other host")
    shipped = (TREE / "bin/tclhttpd.rc").read_text().replace("[::fileutil::tempdir]", str(tmp_path))
    rc.write_text(
        shipped + f"\nConfig docRoot {{{docs}}}\nConfig LogFile {{{tmp_path}/other-log}}\n"
    )
    own = ["-threads", str(threads)] if threads else ["-virtual", f"other.test {rc}"]
    form = "application/x-www-form-urlencoded"
    asked: list[tuple[str, str, str, str]] = []
    with serve(
        engine, "tclhttpd", tmp_path, "--access-log", str(log), "--", *own, root=None
    ) as server:
        requests: list[tuple[str, str, bytes | None, dict[str, str]]] = [
            ("GET", "/", None, {}),
            ("GET", "/cgi-bin/hello.cgi", None, {}),
            ("POST", "/cgi-bin/test.cgi", b"name=value", {"Content_Type": form}),
            ("GET", "/images", None, {}),
            ("GET", "/admin", None, {}),
            ("GET", "/status", None, {}),
            ("GET", "/nothing/here", None, {}),
            ("POST", "/forms/posttest.tml", b"a=b", {"Content_Type": form}),
            ("GET", "/index.html", None, {"Host": "other.test"}),
        ]
        if threads:  # With virtual hosts, it has several passwords.
            headers = {"Authorization": password(server)}
            requests.append(("GET", "/debug/pvalue?aname=tcl_platform", None, headers))
        for method, path, body, headers in requests:
            response, answer = server.request(path, method, body, **headers)
            user = "debug" if "Authorization" in headers else "-"
            line = f"{method} {path} HTTP/1.1"
            asked.append((user, line, str(response.status), str(len(answer))))
        found = wait_for_entries(log, len(asked))
    assert [(e.user, e.request, e.status, e.bytes) for e in found] == asked


def test_https(engine: str, tmp_path: Path) -> None:
    have = subprocess.run(
        ["tclsh"], input="package require tls", text=True, capture_output=True, check=False
    )
    if have.stderr:
        pytest.skip(f"tcl-tls is not installed: {have.stderr.strip()}")
    key, certificate = tmp_path / "skey.pem", tmp_path / "server.pem"
    kind = ["-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    subprocess.run(
        ["openssl", "req", "-x509", *kind, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    rc = tmp_path / "https.rc"
    rc.write_text(
        f"Config SSL_CADIR {{{tmp_path}}}\nConfig SSL_CERTFILE {{{certificate}}}\n"
        f"Config SSL_KEYFILE {{{key}}}\nConfig https_port {port}\n"
        "Config USE_SSL2 0\nConfig USE_SSL3 0\nConfig USE_TLS1 1\n"
    )
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "file.bin").write_bytes(os.urandom(3_000_000))
    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = False
    with serve(engine, "tclhttpd", tmp_path, "--rc", str(rc), root=docs) as server:
        before = server.at_rest()
        for _ in range(5):
            with (
                socket.create_connection(("127.0.0.1", port), DEADLINE) as plain,
                context.wrap_socket(plain) as sock,
            ):
                sock.sendall(b"GET /file.bin HTTP/1.0\r\n\r\n")
                answer = sock.makefile("rb").read()
            head, _, body = answer.partition(b"\r\n\r\n")
            assert b" 200 " in head.split(b"\r\n")[0]
            (tmp_path / "got").write_bytes(body)
            assert filecmp.cmp(tmp_path / "got", docs / "file.bin", shallow=False)
        wait_for(lambda: server.holdings() == before, what=f"{before}, now {server.holdings()}")
