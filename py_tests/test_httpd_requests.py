"""Requests as no browser makes them: what is the client's own stays text, and each gets its end."""

from __future__ import annotations

import os
import re
import resource
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from httpclient import SERVERS, Server, serve, wait_for

# tclhttpd's code is the site's own tree.
HOSTED = [name for name in SERVERS if name != "tclhttpd"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.txt").write_text("hello")
    return root


@pytest.fixture(params=HOSTED)
def server(
    request: pytest.FixtureRequest, engine: str, tmp_path: Path, root: Path
) -> Iterator[Server]:
    with serve(engine, request.param, tmp_path, root=root) as hosted:
        yield hosted


def answer(server: Server, request: bytes) -> bytes:
    """All that comes until the server closes, which it may do before it has read everything."""
    with server.connect() as sock:
        parts = []
        with suppress(ConnectionError):
            sock.sendall(request)
            while part := sock.recv(65536):
                parts.append(part)
        return b"".join(parts)


def post(kind: bytes, body: bytes, method: bytes = b"POST") -> bytes:
    head = b"%s /a.txt HTTP/1.0\r\nHost: a\r\nContent-Type: %s\r\n" % (method, kind)
    return head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)


FORM = b"application/x-www-form-urlencoded"
HEADERS = (
    *("accept", "accept-encoding", "authorization", "connection", "content-encoding"),
    *(
        "content-length",
        "content-type",
        "cookie",
        "date",
        "expect",
        "host",
        "if-modified-since",
        "if-none-match",
    ),
    *("range", "referer", "transfer-encoding", "upgrade", "user-agent", "x-forwarded-for"),
)


# Where a request can have a text of the client's; the rest of the header follows.
PLACES = {
    "line": b"%s",
    "method": b"%s /a.txt HTTP/1.0",
    "path": b"GET /%s HTTP/1.0",
    "path alone": b"GET %s HTTP/1.0",
    "path of HEAD": b"HEAD /%s HTTP/1.0",
    "path of OPTIONS": b"OPTIONS /%s HTTP/1.0",
    "file": b"GET /a.txt%s HTTP/1.0",
    "directory": b"GET /%s/a.txt HTTP/1.0",
    "host": b"GET http://%s/a.txt HTTP/1.0",
    "query": b"GET /a.txt?%s HTTP/1.0",
    "name of a field": b"GET /a.txt?%s=1 HTTP/1.0",
    "field": b"GET /a.txt?a=1&b=%s HTTP/1.0",
    "query of what is not there": b"GET /none?%s HTTP/1.0",
    "fragment": b"GET /a.txt#%s HTTP/1.0",
    "version": b"GET /a.txt HTTP/%s",
    "behind the version": b"GET /a.txt HTTP/1.0 %s",
    "protocol": b"GET /a.txt %s",
    "header": b"GET /a.txt HTTP/1.0\r\n%s",
    "name of a header": b"GET /a.txt HTTP/1.0\r\n%s: a",
    "folded header": b"GET /a.txt HTTP/1.0\r\nX-A: a\r\n %s",
    "basic": b"GET /a.txt HTTP/1.0\r\nAuthorization: Basic %s",
    "cookie's value": b"GET /a.txt HTTP/1.0\r\nCookie: a=%s",
    "date and options": b"GET /a.txt HTTP/1.0\r\nIf-Modified-Since: now;%s",
}


def requests_with(text: bytes) -> dict[str, bytes]:
    """Requests that have the text in each place where a client can have one."""
    end = b"\r\nHost: a\r\n\r\n"
    part = b'--x\r\nContent-Disposition: %s; name="%s"; filename="%s"\r\n%s: %s\r\n\r\n%s\r\n--x--'
    requests = {name: place % text + end for name, place in PLACES.items()} | {
        "form": post(FORM, text),
        "form's names": post(FORM, b"a=b&" + text + b"=c"),
        "form's fields": post(FORM, b"a=b&c=" + text),
        "PUT": post(b"text/plain", text, b"PUT"),
        "boundary": post(b"multipart/form-data; boundary=" + text, b"--" + text + b"\r\n\r\n"),
        "PUT of parts": post(b"multipart/form-data; boundary=x", text, b"PUT"),
    }
    for header in HEADERS:
        line = header.encode() + b": " + text
        requests[header] = b"GET /a.txt HTTP/1.0\r\n" + line + end
        requests[f"{header} of a form"] = post(FORM + b"\r\n" + line, b"a=b")
    for at in range(part.count(b"%s")):
        words = [b"form-data", b"a", b"b", b"Content-Type", b"text/plain", b"content"]
        words[at] = text
        body = part % tuple(words)
        requests[f"part's word {at}"] = post(b"multipart/form-data; boundary=x", body)
    return requests


# Each would make the file, end the process, or be an error if Tcl took it for more than text.
TEXTS = (
    "[exec touch {file}]",
    "[exec\ttouch\t{file}]",
    "%5bexec%20touch%20{file}%5d",
    "%5Bexec+touch+{file}%5D",
    "[exec%09touch%09{file}]",
    "\\x5bexec touch {file}\\x5d",
    ";exec touch {file};",
    "}};exec touch {file};{{",
    '"; exec touch {file}; "',
    "%0aexec touch {file}%0a",
    "[open\t{file}\tw]",
    "$x([exec touch {file}])",
    "${{x}}([exec\ttouch\t{file}])",
    "a[exec touch {file}]=b",
    "%%5bexec touch {file}%%5d",
    "[exit 3]",
    "[exit%203]",
    "::exit 3",
    "$::env(TMPDIR)",
    "${{::env(TMPDIR)}}",
    "[set\t::env(TMPDIR)]",
    "[",
    "]",
    "[]",
    "{{",
    "}}",
    '"',
    "$",
    "$(",
    "\\",
    "\\\\[",
    "%",
    "%s",
    "%d%n",
    "(",
    "*",
    "x(y",
    "-1",
    "--",
    "#",
    "~",
    "\0",
    "\x1b",
    "\N{GREEK SMALL LETTER ALPHA}[\xff",
)


@pytest.mark.timeout(300)
def test_text_is_only_text(server: Server, tmp_path: Path) -> None:
    made = tmp_path / "made"
    for text in TEXTS:
        for place, request in requests_with(text.format(file=made).encode()).items():
            try:
                got = answer(server, request)
            except TimeoutError:
                raise AssertionError(f"no end of the answer: {text!r} as {place}") from None
            assert not made.exists(), f"{text!r} as {place} was evaluated"
            assert server.process.poll() is None, f"{text!r} as {place} has ended the server"
            if "TMPDIR" in text:
                assert str(tmp_path).encode() not in got, f"{text!r} as {place}"
        assert answer(server, b"GET /a.txt HTTP/1.0\r\n\r\n").endswith(b"hello"), text


# Templates that break what the next request needs.
BREAKS = {
    "listing.tml": "[proc ::tclchan::httpd::listing args {error {no luck}}]",
    "copy.tml": "[proc fails args {error {no luck}}][interp alias {} ::fcopy {} "
    "::tclchan::httpd::fails]",
    "log.tml": "[close [$::tclchan::httpd::httpd set logfile]]",
}


@pytest.fixture
def broken(root: Path) -> Path:
    for name, text in BREAKS.items():
        (root / name).write_text(text)
    return root


def statuses(got: bytes) -> list[bytes]:
    return re.findall(rb"HTTP/1\.[01] (\d{3}) ", got)


def test_error_in_a_handler(broken: Path, server: Server) -> None:
    before = server.at_rest()
    assert server.request("/listing.tml")[0].status == 200
    for _ in range(3):
        got = answer(server, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert statuses(got) == [b"500"]
        assert b"httpd.tcl" not in got, "how the site is made is not the client's business"
    assert server.at_rest() == before
    wait_for(lambda: server.stderr().count("background error: no luck") == 3)


@pytest.fixture
def default(engine: str, tmp_path: Path, root: Path) -> Iterator[Server]:
    with serve(engine, "xotcl", tmp_path, "--log-dir", str(tmp_path), root=root) as hosted:
        yield hosted


def test_error_behind_the_header(broken: Path, default: Server) -> None:
    before = default.at_rest()
    default.request("/copy.tml")
    got = answer(default, b"GET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n")
    assert statuses(got) == [b"200"]
    assert not got.endswith(b"hello")
    assert default.at_rest() == before
    wait_for(lambda: "background error: no luck" in default.stderr())


def test_error_in_the_servers_log(broken: Path, default: Server) -> None:
    default.request("/log.tml")
    assert answer(default, b"GET /a.txt HTTP/1.0\r\n\r\n").endswith(b"hello")
    wait_for(lambda: "background error: can not find channel" in default.stderr())


def test_parts_without_a_length(default: Server) -> None:
    before = default.at_rest()
    for method in (b"GET", b"POST"):
        kind = b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
        answer(default, method + b" /a.txt HTTP/1.0\r\n" + kind + b"--x\r\n\r\n--x--\r\n")
    assert default.at_rest() == before


def test_template_that_fails_is_logged(root: Path, server: Server) -> None:
    (root / "bad.tml").write_text("before [error {no <luck>}] after")
    response, body = server.request("/bad.tml")
    assert response.status == 500
    assert b"no &lt;luck&gt;" in body
    wait_for(lambda: "background error: no <luck>" in server.stderr())
    assert "invoked from within" in server.stderr()


def test_templates_decode_text_only(root: Path, default: Server, tmp_path: Path) -> None:
    """By the server's own commands, too."""
    made = tmp_path / "made"
    page = "[::url decodeItem {[exec touch FILE]+%41}] [::url decodeName {[exit]+%41}]"
    (root / "decode.tml").write_text(page.replace("FILE", str(made)))
    assert default.request("/decode.tml")[1].decode() == f"[exec touch {made}] A [exit]+A"
    assert not made.exists()


LAST = b"GET /a.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("request_", "found"),
    [
        (b"POST /a.txt HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", [b"405"]),
        (b"POST /a.txt HTTP/1.1\r\nContent-Length: 010\r\n\r\n0123456789", [b"405"]),
        (b"POST /a.txt HTTP/1.1\r\nContent-Length: 0\r\n\r\n", [b"405"]),
        (b"PUT /a.txt HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", [b"405"]),
        (b"GET /a.txt HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", [b"200"]),
        (b"HEAD /a.txt HTTP/1.1\r\n\r\n", [b"200"]),
        (b"OPTIONS * HTTP/1.1\r\n\r\n", [b"204"]),
        (b"DELETE /a.txt HTTP/1.1\r\n\r\n", [b"405"]),
        (b"\r\n\r\nGET /empty.txt HTTP/1.1\r\n\r\n", [b"200"]),
        (
            b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
            [b"100", b"405"],
        ),
    ],
)
def test_next_request_on_the_connection(
    root: Path, default: Server, request_: bytes, found: list[bytes]
) -> None:
    (root / "empty.txt").write_text("")
    got = answer(default, request_ + LAST)
    assert statuses(got) == [*found, b"200"]
    assert got.endswith(b"hello")


def test_go_on_is_said_before_the_body(default: Server) -> None:
    head = b"POST /a.txt HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n"
    with default.connect() as sock:
        sock.sendall(head + b"Connection: close\r\n\r\n")
        assert sock.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"abc")
        got = b"".join(iter(lambda: sock.recv(65536), b""))
    assert statuses(got) == [b"405"]
    assert b"\r\nAllow: GET, HEAD, OPTIONS\r\n" in got


# What follows must not be taken for a request.
REFUSED = {
    b"POST /a.txt HTTP/1.1\r\nContent-Length : 26\r\n\r\n": b"400",
    b"POST /a.txt HTTP/1.1\r\nContent-Length: 0x3\r\n\r\n": b"400",
    b"POST /a.txt HTTP/1.1\r\nContent-Length: +3\r\n\r\n": b"400",
    b"POST /a.txt HTTP/1.1\r\nContent-Length: -1\r\n\r\n": b"400",
    b"POST /a.txt HTTP/1.1\r\nContent-Length:\r\n\r\n": b"400",
    b"POST /a.txt HTTP/1.1\r\nContent-Length: 1e1\r\n\r\n": b"400",
    b"POST /a.txt HTTP/1.1\r\nContent-Length: \xd9\xa3\r\n\r\n": b"400",
    b"POST /a.txt HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n": b"400",
    b"POST /a.txt HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n": b"400",
    b"POST /a.txt HTTP/1.1\r\nContent-Length: 9" + b"9" * 30 + b"\r\n\r\n": b"400",
    b"POST /a.txt HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n": b"413",
    b"POST /a.txt HTTP/1.1\r\n\r\n": b"411",
    b"POST /a.txt HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": b"501",
    b"GET /a.txt HTTP/1.1\r\nTransfer-Encoding: x\r\nContent-Length: 1\r\n\r\na": b"501",
    b"GET /a.txt HTTP/1.1\r\nA: b\r\n c: d\r\n\r\n": b"400",
    b"GET /a.txt HTTP/1.1\r\nno colon\r\n\r\n": b"400",
    b"GET /a.txt HTTP/1.1\r\n: nameless\r\n\r\n": b"400",
    b"GET /a.txt HTTP/1.1\r\nA: b\rContent-Length: 3\r\n\r\n": b"400",
    b"GET /a.txt HTTP/1.1\r\nA: \0\r\n\r\n": b"400",
    b"GET /a.txt HTTP/9.9\r\n\r\n": b"505",
    b"GET /a.txt HTTP/1.1 foo\r\n\r\n": b"400",
    b"GET /a.txt HTTP/01.1\r\n\r\n": b"400",
    b"GET /a b.txt HTTP/1.1\r\n\r\n": b"400",
    b"GET /a\rLocation:b HTTP/1.1\r\n\r\n": b"400",
    b"GET a.txt HTTP/1.1\r\n\r\n": b"400",
    b"GET /a.txt\r\n\r\n": b"400",
}


@pytest.mark.parametrize(("request_", "status"), REFUSED.items())
def test_refused_and_closed(default: Server, request_: bytes, status: bytes) -> None:
    got = answer(default, request_ + LAST)
    assert statuses(got) == [status]
    assert b"\r\nConnection: close\r\n" in got
    assert "background error" not in default.stderr()


def test_body_that_ends_too_soon(default: Server) -> None:
    got = default.raw(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc", half_close=True)
    assert statuses(got) == [b"400"]


def test_names_as_they_are(root: Path, default: Server) -> None:
    for name in (".well-known/x", "a[1].txt", "\N{GREEK SMALL LETTER ALPHA}.txt"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(name)
        first = f"GET /{name}?f[name]=1 HTTP/1.1\r\n\r\n".encode()
        # On the same connection after a file, too.
        got = answer(default, first * 2 + LAST)
        assert statuses(got) == [b"200"] * 3
        assert got.count(b"\r\n\r\n" + name.encode()) == 2
    assert default.request("/.well-known/none")[0].status == 404
    for path in ("/.a.txt", "/./a.txt", "/..a.txt", "/a.txt/", "/.well-known/../a.txt"):
        assert statuses(answer(default, f"GET {path} HTTP/1.0\r\n\r\n".encode())) == [b"404"], path


def test_numbers_are_logged_as_they_came(engine: str, tmp_path: Path, root: Path) -> None:
    log = tmp_path / "access.log"
    with serve(engine, "xotcl", tmp_path, "--access-log", str(log), root=root) as server:
        server.request("/a.txt", Referer="0x10", User_Agent="010")
        wait_for(lambda: log.read_text().endswith('"0x10" "010"\n'), what=log.read_text())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"".join(b"A%d: b\r\n" % i for i in range(99)), b"200"),
        (b"".join(b"A%d: b\r\n" % i for i in range(100)), b"431"),
        (b"A: b\r\n" * 100, b"431"),
        (b"A: " + b"x" * 65_000 + b"\r\n", b"200"),
        (b"A: " + b"x" * 66_000 + b"\r\n", b"431"),
        (b"A: " + b"x" * 200_000, b"431"),
        ((b"A: " + b"x" * 10_000 + b"\r\n") * 7, b"431"),
        (b"".join(b"A%d: %s\r\n" % (i, b"x" * 60_000) for i in range(1000)), b"431"),
    ],
    ids=["many", "too many", "too often", "long", "too long", "endless", "together", "huge"],
)
def test_headers_are_bounded(default: Server, headers: bytes, status: bytes) -> None:
    assert statuses(answer(default, LAST)) == [b"200"]
    memory = default.memory()
    request = b"GET /a.txt HTTP/1.1\r\n" + headers + b"Connection: close\r\n\r\n"
    got = answer(default, request)
    # The answer is lost on those who still send when the server has had enough.
    assert statuses(got) == [status] or (not got and len(headers) > 100_000)
    assert default.memory() - memory < 5_000_000
    assert statuses(answer(default, LAST)) == [b"200"]


# The file is of 1994-11-06 08:49:37 GMT.
DATES = {
    "Sun, 06 Nov 1994 08:49:37 GMT": 304,
    "Sun, 06 Nov 1994 08:49:36 GMT": 200,
    "Mon, 07 Nov 1994 08:49:37 GMT": 304,
    "Sunday, 06-Nov-94 08:49:37 GMT": 304,
    "Sunday, 06-Nov-94 08:49:36 GMT": 200,
    "Sun Nov  6 08:49:37 1994": 304,
    "Sun Nov  6 08:49:36 1994": 200,
    "Fri Nov 11 00:00:00 1994": 304,
    "0": 200,
    "-1": 200,
    "now": 200,
    "yesterday": 200,
    "tomorrow": 200,
    "1 year": 200,
    "20300101": 200,
    "2030-01-01": 200,
    "Sun, 6 Nov 1994 08:49:37 GMT": 200,
    "Sun, 06 Nov 1994 08:49:37": 200,
    "Sun, 06 Nov 1994 08:49:37 +0000": 200,
    "Sun, 06 Nov 1994 08:49:37 PST": 200,
    "sun, 06 nov 2094 08:49:37 gmt": 200,
    "Fri, 31 Feb 2034 08:49:37 GMT": 200,
    "Sun, 06 Nov 1994 08:49:37 GMT; length=5": 200,
}


def test_dates_of_the_protocol(
    root: Path, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    os.utime(root / "a.txt", (784111777, 784111777))
    for name in HOSTED:
        with serve(engine, name, tmp_path, root=root) as server:
            for date, status in DATES.items():
                for method in ("GET", "HEAD"):
                    response, _ = server.request("/a.txt", method, If_Modified_Since=date)
                    assert response.status == status, (name, method, date)


def test_no_descriptor_for_the_file(server: Server) -> None:
    server.request("/a.txt")
    opened = Path(f"/proc/{server.pid}/fd")
    limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    before = server.at_rest()
    with server.connect() as sock:
        wait_for(lambda: len(list(opened.iterdir())) == before[0] + 1)
        used = {int(fd.name) for fd in opened.iterdir()}
        free = min(set(range(len(used) + 1)) - used)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (free, limits[1]))
        sock.sendall(LAST)
        got = b"".join(iter(lambda: sock.recv(65536), b""))
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
    assert statuses(got) == [b"503"]
    wait_for(lambda: "too many open files" in server.stderr())
    assert server.at_rest() == before
    assert answer(server, LAST).endswith(b"hello")


def test_file_that_changes_its_length(root: Path, default: Server) -> None:
    """What was promised is sent, no more; or the connection ends."""
    file = root / "log.txt"
    size = 20_000_000  # More than the buffers of a connection hold.
    for change in (1000, -size // 2):
        file.write_bytes(b"x" * size)
        with default.connect(4096) as sock:
            sock.sendall(b"GET /log.txt HTTP/1.1\r\n\r\n")
            assert sock.recv(1, socket.MSG_PEEK)
            os.truncate(file, size + change)
            if change > 0:
                sock.sendall(LAST)
            got = b"".join(iter(lambda: sock.recv(1 << 20), b""))
        assert f"Content-Length: {size}\r\n".encode() in got
        if change > 0:
            assert statuses(got) == [b"200", b"200"]
            assert got.count(b"x" * size) == 1
            assert b"\0" not in got
            assert got.endswith(b"hello")
        else:
            assert statuses(got) == [b"200"]


def test_redirects_keep_the_query(root: Path, server: Server) -> None:
    (root / "sub").mkdir()
    for path, location in [
        ("/sub", "/sub/"),
        ("/sub?a=b&c=/d", "/sub/?a=b&c=/d"),
        # To tcllib, that is the root of another host.
        ("//sub" if server.server == "xotcl" else "/sub", "/sub/"),
    ]:
        response, _ = server.request(path)
        assert (response.status, response.headers["Location"]) == (302, location), path
    got = answer(server, b'GET /sub?"<script> HTTP/1.0\r\n\r\n')
    assert b"<script>" not in got.partition(b"\r\n\r\n")[2]


def test_listing_has_only_what_is_found(root: Path, server: Server) -> None:
    (root / "sub").mkdir()
    (root / "b\\c.txt").write_text("")
    (root / ".hidden").write_text("")
    (root / "none").symlink_to("nowhere")
    (root / "link").symlink_to("a.txt")
    os.mkfifo(root / "fifo")
    _, body = server.request("/")
    links = re.findall(rb'href="\./([^"]+)"', body)
    assert links == [b"a.txt", b"link", b"sub/"]


@pytest.mark.parametrize("name", HOSTED)
def test_what_may_not_be_read(engine: str, name: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        root.chmod(0o777)
        for sub in ("unread", "index", "fine"):
            (root / sub).mkdir()
        (root / "index" / "index.html").write_text("SECRET")
        (root / "fine" / "closed.txt").write_text("SECRET")
        for path in ("unread", "index/index.html", "fine/closed.txt"):
            (root / path).chmod(0o300 if path == "unread" else 0)
        options = ("--user", "nobody") if os.geteuid() == 0 else ()
        with serve(engine, name, root, *options, root=root) as server:
            for path, status in {
                "/unread/": 404,
                "/index/": 404,
                "/index/index.html": 404,
                "/fine/": 200,
                "/fine/closed.txt": 404,
            }.items():
                response, body = server.request(path)
                assert response.status == status, path
                assert b"SECRET" not in body
                assert b"closed.txt" not in body or status == 404
