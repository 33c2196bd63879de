"""What `import tclchan` offers."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Iterator

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


def documented() -> Iterator[tuple[str, Iterable[str], str | None]]:
    """What is public: its name, its parameters or attributes, and its docstring."""
    for name in tclchan.__all__:
        value = getattr(tclchan, name)
        if dataclasses.is_dataclass(value):
            yield name, [field.name for field in dataclasses.fields(value)], value.__doc__
        elif isinstance(value, type):
            yield name, (), value.__doc__
            for member, thing in vars(value).items():
                public = member == "__init__" or not member.startswith("_")
                if inspect.isfunction(thing) and public:
                    parameters = list(inspect.signature(thing).parameters)[1:]
                    yield f"{name}.{member}", parameters, thing.__doc__
        elif callable(value):
            yield name, inspect.signature(value).parameters, value.__doc__


def test_everything_says_what_it_is() -> None:
    for name, parameters, doc in documented():
        assert doc, name
        for parameter in parameters:
            assert f" {parameter}: " in doc or f"*{parameter}*" in doc, f"{name}: {parameter}"


def test_signatures() -> None:
    def names(func: object) -> str:
        assert callable(func)
        return str(inspect.signature(func).replace(return_annotation=inspect.Signature.empty))

    assert names(tclchan.attach) == "(interp: 'HasTk', *, engine: 'str' = 'auto')"
    assert names(tclchan.Interp) == (
        "(*, engine: 'str' = 'auto', notifier: 'str' = 'auto', "
        "replace_socket: 'bool' = False, argv0: 'str' = 'tclchan', argv: 'Sequence[str]' = ())"
    )
    assert names(tclchan.stats) == "(engine: 'str | None' = None)"
    for func in (tclchan.engines, tclchan.library_dir):
        assert names(func) == "()"


def test_importing_it_touches_no_tcl(run_python: Run) -> None:
    code = (
        "import tclchan, threading as t, signal as s; print(t.active_count(), s.set_wakeup_fd(-1))"
    )
    done = run_python(code)
    assert (done.stdout, done.stderr) == ("1 -1\n", "")
