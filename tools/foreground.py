"""Run a command in the foreground of the terminal, in a process group of its own.

    tools/foreground.py COMMAND ARG...

Ctrl-C then reaches the command and not make, which would report an interrupt and fail although the
command ended well.
"""

import os
import signal
import sys

if os.isatty(0):
    # A process that takes the terminal from the background is stopped, unless it ignores this.
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpgrp())
    signal.signal(signal.SIGTTOU, before)
os.execvp(sys.argv[1], sys.argv[1:])
