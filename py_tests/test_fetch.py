"""tools/fetch.py, without a network: what it asks apt for, and what it leaves behind."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT

TOOL = ROOT / "tools" / "fetch.py"

ONE_LINE = """\
# deb http://commented.invalid/debian bookworm main
deb http://one.invalid/debian bookworm main contrib # and why
deb [arch=amd64 signed-by=/a.gpg,/b.gpg trusted=yes] http://two.invalid/debian bookworm main
deb http://two.invalid/security bookworm-security main
deb http://other.invalid/apt cloud-bookworm main
deb-src http://contrib.invalid/debian bookworm contrib
"""
STANZAS = """\
Types: deb
# Not the archive of today.
URIs: http://three.invalid/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----

Enabled: no
Types: deb
URIs: http://disabled.invalid/debian
Suites: bookworm
Components: main

Types: deb
URIs: http://four.invalid/debian-security
Suites: bookworm-security
Components: main
"""


@pytest.fixture
def fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The tool as a module, for a machine with the sources above."""
    spec = importlib.util.spec_from_file_location("fetch", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fetch", module)
    spec.loader.exec_module(module)
    lists = tmp_path / "apt" / "sources.list.d"
    lists.mkdir(parents=True)
    (tmp_path / "apt" / "sources.list").write_text(ONE_LINE)
    (lists / "debian.sources").write_text(STANZAS)
    (lists / "debian.sources.save").write_text(STANZAS)
    monkeypatch.setattr(module, "APT", tmp_path / "apt")
    return module


def test_another_suite_comes_from_the_archives_of_the_release(fetch: ModuleType) -> None:
    stanzas = list(fetch.stanzas_for("trixie", "bookworm", source=False))
    head = "Types: deb\nURIs: http://{}.invalid/debian\nSuites: trixie\nComponents: main\n"
    key = STANZAS[STANZAS.index("Signed-By") : STANZAS.index("\n\nEnabled")] + "\n"
    assert stanzas == [
        head.format("one"),
        head.format("two") + "Signed-By: /a.gpg /b.gpg\n",
        head.format("three") + key.replace("Signed-By:", "Signed-By: "),
    ]
    assert "trusted" not in "".join(stanzas).lower()


def test_the_sources_of_the_release_come_from_all_that_it_has(fetch: ModuleType) -> None:
    own = "{codename} {codename}-updates {codename}-security"
    stanzas = list(fetch.stanzas_for(own, "bookworm", source=True))
    found = [
        (fields["uris"], fields["suites"])
        for fields in fetch.deb822_stanzas("\n".join(stanzas))
        if fields["types"] == "deb-src"
    ]
    assert found == [
        ("http://one.invalid/debian", "bookworm"),
        ("http://two.invalid/debian", "bookworm"),
        ("http://two.invalid/security", "bookworm-security"),
        ("http://three.invalid/debian", "bookworm bookworm-updates"),
        ("http://four.invalid/debian-security", "bookworm-security"),
    ]


def test_a_machine_without_such_archives(fetch: ModuleType) -> None:
    assert list(fetch.stanzas_for("trixie", "noble", source=False)) == []


def run(cache: Path, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(TOOL), "tcl9.0"],
        env={"TCLCHAN_CACHE": str(cache), "PATH": str(path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_failure_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    apt = programs / "apt-get"
    apt.write_text("#!/bin/sh\necho 'E: the point' >&2; exit 100\n")
    apt.chmod(0o755)
    done = run(tmp_path / "cache", programs)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("fetch.py: cannot get tcl9.0: ")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["lock"]


def test_what_is_there_is_not_fetched_again(fetch: ModuleType, tmp_path: Path) -> None:
    place = tmp_path / f"tcl9.0-{fetch.recipe('tcl9.0').digest}"
    place.mkdir()
    done = run(tmp_path, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{place}\n", "")


def test_what_an_ended_one_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "partial-abc" / "result").mkdir(parents=True)
    assert run(tmp_path, tmp_path).returncode == 1
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
