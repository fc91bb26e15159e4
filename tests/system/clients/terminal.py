"""Runs a program that insists on a terminal, on one of its own: whatever standard input is.

terminal.py LOG SECONDS PROGRAM [ARGUMENT ...]: what the program shows goes to LOG; after SECONDS it
is killed, with exit code 124; else its own exit code is ours.
"""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

ROWS, COLUMNS = 24, 80


def main() -> int:
    log, seconds, command = sys.argv[1], float(sys.argv[2]), sys.argv[3:]
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    deadline = time.monotonic() + seconds
    with open(log, "wb", buffering=0) as shown:
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([terminal], [], [], left)[0]:
                break
            try:
                octets = os.read(terminal, 4096)
            except OSError:  # Linux's way of saying that the other side is closed
                octets = b""
            if not octets:
                return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            shown.write(octets)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return 124


if __name__ == "__main__":
    sys.exit(main())
