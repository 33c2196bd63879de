"""engines: what this machine has, and why not."""

from __future__ import annotations

import pytest
from conftest import ENGINES

import tclchan
from tclchan import _engines


def test_best_first() -> None:
    assert [info.name for info in ENGINES] == ["io_uring", "epoll"]
    assert tclchan.engines() == ENGINES


def test_a_reason_stands_exactly_with_what_is_not_usable() -> None:
    for info in ENGINES:
        assert info.usable == (info.reason == "")


def test_tcl_says_the_same(interp: tclchan.Interp) -> None:
    for info in ENGINES:
        told = interp.eval(f"lsearch -inline -index 1 [iocp::engines] {info.name}")
        assert interp.call("dict", "get", told, "usable") == str(int(info.usable))
        assert interp.call("dict", "get", told, "reason") == info.reason


@pytest.mark.parametrize(
    ("files", "release", "remedy"),
    [
        ({"/proc/sys/kernel/io_uring_disabled": "2"}, "6.6.1", "sysctl -w"),
        ({"/proc/sys/kernel/io_uring_disabled": "0"}, "5.10.0-8-amd64", "too old"),
        ({"/proc/self/status": "Name:\tx\nSeccomp:\t2\n"}, "6.1.0-13-amd64", "seccomp="),
        ({}, "6.1.0-13-amd64", "use epoll"),
    ],
)
def test_remedies(
    monkeypatch: pytest.MonkeyPatch, files: dict[str, str], release: str, remedy: str
) -> None:
    monkeypatch.setattr(_engines, "_read", lambda path: files.get(path, ""))
    monkeypatch.setattr("platform.release", lambda: release)
    assert remedy in tclchan.EngineInfo("io_uring", False, "Operation not permitted").remedy
    assert tclchan.EngineInfo("io_uring", True, "").remedy == ""
    assert tclchan.EngineInfo("epoll", False, "Too many open files").remedy == ""
