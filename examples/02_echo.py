"""An echo server in Python, on Tcl's channels: every client gets its own bytes back.

    python examples/02_echo.py [port]

The port is 7000 unless given; 0 takes a free one. Try it with:  nc 127.0.0.1 7000
Ctrl-C ends it.
"""

import sys

import tclchan


def main(port: str = "7000") -> int:
    with tclchan.Interp() as tcl:

        def accept(chan: str, host: str, client_port: str) -> None:
            tcl.call("fconfigure", chan, "-blocking", "0", "-translation", "binary")
            tcl.call("fcopy", chan, chan, "-command", f"hang_up {chan}")

        def hang_up(chan: str, count: str, error: str = "") -> None:
            print(f"{chan}: {count} bytes{', ' + error if error else ''}", flush=True)
            tcl.eval(f"catch {{close {chan}}}")

        tcl.command("accept", accept)
        tcl.command("hang_up", hang_up)
        try:
            listener = tcl.call("socket2", "-server", "accept", "-myaddr", "127.0.0.1", port)
        except tclchan.ScriptError as error:
            print(error, file=sys.stderr)
            return 1
        port = tcl.eval(f"lindex [fconfigure {listener} -sockname] 2")
        print(f"echo server at 127.0.0.1 port {port} ({tcl.eval('iocp::engine')})", flush=True)
        return tcl.run()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
