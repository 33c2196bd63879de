"""What `import tclchan` offers."""

from __future__ import annotations

import inspect

from conftest import Run

import tclchan


def test_all_is_what_there_is() -> None:
    public = {
        name
        for name, value in vars(tclchan).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public | {"__version__"} == set(tclchan.__all__)
    assert list(tclchan.__all__) == sorted(tclchan.__all__)


def test_everything_says_what_it_is() -> None:
    for name in tclchan.__all__:
        value = getattr(tclchan, name)
        if not callable(value):
            continue
        assert value.__doc__, name
        for member, thing in vars(value).items() if isinstance(value, type) else ():
            if inspect.isfunction(thing) and not member.startswith("_"):
                assert thing.__doc__, f"{name}.{member}"


def test_signatures() -> None:
    def names(func: object) -> str:
        assert callable(func)
        return str(inspect.signature(func).replace(return_annotation=inspect.Signature.empty))

    assert names(tclchan.attach) == "(interp: 'HasTk', *, engine: 'str' = 'auto')"
    assert names(tclchan.Interp) == (
        "(*, engine: 'str' = 'auto', replace_socket: 'bool' = False, "
        "argv0: 'str' = 'tclchan', argv: 'Sequence[str]' = ())"
    )
    for func in (tclchan.engines, tclchan.stats, tclchan.library_dir):
        assert names(func) == "()"


def test_importing_it_touches_no_tcl(run_python: Run) -> None:
    code = (
        "import tclchan, threading as t, signal as s; print(t.active_count(), s.set_wakeup_fd(-1))"
    )
    done = run_python(code)
    assert (done.stdout, done.stderr) == ("1 -1\n", "")
