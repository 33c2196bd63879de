"""The driver in a program that has its own tkinter: a window that shows who is connected.

    python examples/06_attach.py [port]

The port is 7002 unless given; 0 takes a free one. Try it with:  nc 127.0.0.1 7002
Without a display the program tells the same on its standard output. Ctrl-C or closing the window
ends it.
"""

import signal
import sys
import tkinter
from collections.abc import Callable

import tclchan


class Visitors:
    """Greets every visitor, and calls *show* with their addresses whenever they change."""

    def __init__(self, tk: tkinter.Misc, port: str) -> None:
        self.tk = tk.tk
        self.addresses: dict[str, str] = {}
        self.show: Callable[[], None] = lambda: print(
            ", ".join(self.addresses.values()) or "nobody", flush=True
        )
        self.tk.createcommand("accept", self.accept)
        self.tk.createcommand("hear", self.hear)
        listener = self.tk.call("socket2", "-server", "accept", "-myaddr", "127.0.0.1", port)
        self.port = self.tk.splitlist(self.tk.call("fconfigure", listener, "-sockname"))[2]

    def accept(self, chan: str, host: str, port: str) -> None:
        self.addresses[chan] = f"{host}:{port}"
        self.tk.call("fconfigure", chan, "-blocking", "0", "-buffering", "line")
        self.tk.call("fileevent", chan, "readable", f"hear {chan}")
        self.tk.call("puts", chan, f"Hello, {host}. You are one of {len(self.addresses)}.")
        self.show()

    def hear(self, chan: str) -> None:
        # A visitor whose connection is reset is gone just as one who hangs up.
        if self.tk.eval(f"catch {{read {chan}}}") == "1" or self.tk.eval(f"eof {chan}") == "1":
            self.tk.eval(f"catch {{close {chan}}}")
            del self.addresses[chan]
            self.show()


def main(port: str = "7002") -> int:
    try:
        window: tkinter.Tk | None = tkinter.Tk()
    except tkinter.TclError:
        window = None
    tk: tkinter.Tk = window or tkinter.Tcl()
    engine = tclchan.attach(tk).engine
    try:
        visitors = Visitors(tk, port)
    except tkinter.TclError as error:
        print(error, file=sys.stderr)
        return 1
    title = f"127.0.0.1 port {visitors.port} ({engine})"
    print(f"greeting at {title}", flush=True)
    ended: list[object] = []
    signal.signal(signal.SIGINT, lambda *_: ended.append("SIGINT"))
    signal.signal(signal.SIGTERM, lambda *_: ended.append("SIGTERM"))
    if window:
        window.title(title)
        window.protocol("WM_DELETE_WINDOW", lambda: ended.append("closed"))
        text = tkinter.StringVar(window, "nobody")
        tkinter.Label(window, textvariable=text, width=40, padx=20, pady=20).pack()
        visitors.show = lambda: text.set("\n".join(visitors.addresses.values()) or "nobody")
    # Python runs its signal handlers only between calls, so Tcl has to come back now and then. (An
    # interpreter of tclchan.Interp does without this.)
    tk.eval("proc beat {} {after 100 beat}; beat")
    while not ended:
        tk.tk.dooneevent(0)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
