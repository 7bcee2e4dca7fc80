"""Runs a program on a pseudo-terminal of its own, presses Ctrl-C after a while, and writes what the terminal got.

terminal.py COLUMNS ROWS TEXT SECONDS FILE PROGRAM ARGUMENT…

The time counts from when the program has written TEXT. A second before Ctrl-C, an x and a line feed are typed. Ends with
the status of the program.
"""

import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time


def main():
    columns, rows, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[4])
    text = sys.argv[3].encode()
    child, terminal = pty.fork()
    if child == 0:
        os.execvp(sys.argv[6], sys.argv[6:])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    typed = [(seconds, b"\x03"), (seconds - 1, b"x\n")]
    seen, begin = b"", None
    with open(sys.argv[5], "wb") as file:
        while True:
            ready, _, _ = select.select([terminal], [], [], 0.05)
            if ready:
                try:
                    read = os.read(terminal, 65536)
                except OSError:  # Linux: nobody has the other end any more
                    break
                if not read:
                    break
                file.write(read)
                file.flush()
                seen += read
                if begin is None and text in seen:
                    begin = time.monotonic()
            if typed and begin is not None and time.monotonic() - begin >= typed[-1][0]:
                os.write(terminal, typed.pop()[1])
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)


main()
