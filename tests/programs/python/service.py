"""What the Python test services share: the log of their own responses."""

import collections
import threading


class Record:
    """Counts of responses by status, and durations of /delay in nanoseconds."""

    def __init__(self):
        self._lock = threading.Lock()
        self._counts = collections.Counter()
        self._durations = []

    def add(self, path, status, nanoseconds):
        with self._lock:
            self._counts[str(status)] += 1
            if path.startswith("/delay/"):
                self._durations.append(nanoseconds)

    def counts(self):
        with self._lock:
            return dict(self._counts)

    def durations(self):
        with self._lock:
            return list(self._durations)


def body(size):
    """`size` bytes in pieces of at most 64 KiB."""
    piece = b"x" * min(size, 65536)
    while size > 0:
        yield piece[:size]
        size -= len(piece[:size])
