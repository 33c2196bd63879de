"""The console command, as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from conftest import ENGINES, WINDOWS, Run, tclsh_of

import tclchan

_tclsh = tclsh_of("8.6")
assert _tclsh is not None, "no tclsh: install the package tcl"
TCLSH = _tclsh.path

HTTPD = ["httpd", "--root", "/", "--port", "0"]


def test_the_console_script_is_installed() -> None:
    script = Path(sysconfig.get_path("scripts")) / ("tclchan.exe" if WINDOWS else "tclchan")
    # Some of Windows' make it look for Python there.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    done = subprocess.run(
        [script, "--version"],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"tclchan {tclchan.__version__}\n"


def test_path_serves_a_plain_tclsh(cli: Run) -> None:
    path = cli("path").stdout.rstrip("\n")
    assert path == tclchan.library_dir().as_posix()
    for package in ("Iocpsock 3.0", "iocpsock"):
        script = f"lappend auto_path {path}; puts [package require {package}]\n"
        script += "puts [info commands socket2]"
        done = subprocess.run(
            [TCLSH], input=script, capture_output=True, text=True, check=True, timeout=30
        )
        assert done.stdout == "3.1\nsocket2\n"


def test_run_is_like_tclsh(cli: Run, tmp_path: Path) -> None:
    script = tmp_path / "script.tcl"
    script.write_text("""
        package require Iocpsock
        puts [list $argv0 $argc $argv $tcl_interactive [info script]]
        puts -nonewline [string length [read stdin]]
    """)
    args = [str(script), "a b", "--json", "-x", ""]
    done = cli("run", *args, input="some input")
    want = subprocess.run(
        [TCLSH, *args],
        input="some input",
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TCLLIBPATH": tclchan.library_dir().as_posix()},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, want.stdout, "")


@pytest.mark.parametrize(
    "script",
    [
        "error oops",
        "proc f {} {expr {1 / 0}}\nf",
        "exit 7",
        "exit",
        "exit 010",
        "exit 007",
        "exit { 0x1f }",
        "",
    ],
)
def test_run_ends_like_tclsh(cli: Run, tmp_path: Path, script: str) -> None:
    file = tmp_path / "script.tcl"
    file.write_text(script)
    done = cli("run", str(file))
    want = subprocess.run([TCLSH, str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (
        want.returncode,
        want.stdout,
        want.stderr,
    )


def test_run_reads_standard_input(cli: Run) -> None:
    done = cli("run", "-", "x", input="puts $argv; exit 3")
    assert (done.returncode, done.stdout) == (3, "x\n")


def test_run_uses_the_engine_and_replaces_socket(engine: str, cli: Run) -> None:
    script = "puts [list [iocp::engine] [string range [socket -server x 0] 0 3]]"
    done = cli("run", "--engine", engine, "--replace-socket", "-", input=script)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{engine} iocp\n", "")


@pytest.mark.posix("there are no such limits")
def test_run_raises_the_limit_of_descriptors(cli: Run) -> None:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    script = f"import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (256, {hard})); import os, sys; "
    script += 'os.execv(sys.executable, [sys.executable, "-P", "-m", "tclchan", "run", "-"])'
    done = subprocess.run(
        [sys.executable, "-c", script],
        input="puts [exec sh -c {ulimit -n}]",
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    assert done.stdout == f"{hard}\n"


def test_doctor(cli: Run) -> None:
    done = cli("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"tclchan:          {tclchan.__version__}\n" in done.stdout
    for info in ENGINES:
        assert f"  {info.name + ':':<18}{'usable' if info.usable else 'not usable'}" in done.stdout


def test_doctor_json(cli: Run, engine: str) -> None:
    done = cli("doctor", "--json", env={**os.environ, "TCLCHAN_ENGINE": engine})
    report = json.loads(done.stdout)
    assert done.returncode == 0
    assert report["chosen"] == engine
    assert report["versions"]["driver"] == "3.1"
    assert {e["name"]: e["usable"] for e in report["engines"]} == {
        info.name: info.usable for info in ENGINES
    }


@pytest.mark.posix("there are no such limits")
def test_doctor_says_the_limits(cli: Run) -> None:
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, 8192))

    done = cli("doctor", "--json", preexec_fn=limit)
    assert json.loads(done.stdout)["limits"] == {
        "open descriptors": "soft 200, hard 300",
        "locked memory": "soft 4096, hard 8192",
        "listen backlog": Path("/proc/sys/net/core/somaxconn").read_text().strip(),
    }
    done = cli("doctor", preexec_fn=limit)
    assert "\nlimits:\n  open descriptors: soft 200, hard 300\n" in done.stdout
    assert "\n  locked memory:    soft 4096, hard 8192\n  listen backlog:   " in done.stdout


def test_doctor_fails_when_nothing_works(cli: Run) -> None:
    done = cli("doctor", env={**os.environ, "TCLCHAN_ENGINE": "nonsense"})
    assert done.returncode == 1
    assert 'problem: unknown engine "nonsense"' in done.stdout


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([], 2, "required: COMMAND"),
        (["dance"], 2, "invalid choice: 'dance'"),
        (["run"], 2, "required: SCRIPT\n"),
        (["run", "/nowhere/x.tcl"], 1, 'couldn\'t read file "/nowhere/x.tcl": no such file'),
        (["run", "--engine", "x", "-"], 2, 'tclchan: error: unknown engine "x": must be auto'),
        (
            ["run", os.fsdecode(b"s\xff.tcl")],
            2,
            r'"s\xff.tcl" cannot be used: its name is not UTF-8',
        ),
        (["path", "extra"], 2, "unrecognized arguments: extra"),
        (["httpd", "--worker", "2"], 2, "unrecognized arguments: --worker"),
        (["httpd", "--root", ""], 1, "the name of the root is empty"),
        (["httpd", "--root", "/", "--address", ""], 1, "the address is empty"),
        (["httpd", "--root", "/", "--address", "a..b"], 1, "no host has such a name (a..b)"),
        ([*HTTPD, "--metrics-address", "::1"], 1, "--metrics-address takes --metrics PORT"),
        ([*HTTPD, "--metrics", "0", "--metrics-address", ""], 1, "for the metrics is empty"),
    ],
)
def test_wrong_calls(cli: Run, args: list[str], code: int, message: str) -> None:
    done = cli(*args, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.posix("a server there ends with its console")
def test_a_root_that_the_output_cannot_spell(tmp_path: Path) -> None:
    """That is no reason not to serve it."""
    root = tmp_path / "r\u20acot"
    root.mkdir()
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "tclchan", "httpd", "--port", "0", "--root", str(root)],
        env={**os.environ, "PYTHONIOENCODING": "latin-1:strict"},
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        server.terminate()
        assert server.wait(30) == 0
    assert line.startswith(f"serving {tmp_path}/r\\u20acot at http://")


def test_help_names_every_command(cli: Run) -> None:
    done = cli("--help")
    assert done.returncode == 0
    for command in ("httpd", "run", "doctor", "path", *([] if WINDOWS else ["bench"])):
        assert f"\n    {command} " in done.stdout
        assert cli(command, "--help").returncode == 0
