"""Hosting a site from Python: a Tcl web server for the files, and a word from Python in its pages.

    python examples/05_host_a_site.py [directory [port]]

The directory is examples/site unless given, and the port 8015; 0 takes a free one. Pages named
*.tml may hold Tcl commands in brackets: [python_version] is one that this program adds.
Ctrl-C ends it.
"""

import platform
import sys
from pathlib import Path

import tclchan


def main(root: str = str(Path(__file__).with_name("site")), port: str = "8015") -> int:
    with tclchan.Interp(replace_socket=True) as tcl:
        tcl.command("python_version", platform.python_version)
        try:
            with tclchan.serving(tcl, root, port=int(port)) as site:
                print(site, flush=True)
                code = tcl.run()
        except tclchan.HttpdError as error:
            print(error, file=sys.stderr)
            return 1
    counters = tclchan.stats()
    print(f"{counters.accepts} connections, {counters.bytes_sent} bytes sent")
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
