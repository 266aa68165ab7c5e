"""What a process holds: memory, threads, sockets; and whether it gives all of it back."""

from __future__ import annotations

import gc
import os
import statistics
import sys
import threading
import time
from pathlib import Path

FDS = Path("/proc/self/fd")
PAGE = os.sysconf("SC_PAGE_SIZE")
WATCHDOG = "prx-watchdog"


class Violations:
    """What must not be; the first few as sentences, all of them counted."""

    def __init__(self, most=20):
        self.most, self.count, self.said, self._lock = most, 0, [], threading.Lock()

    def add(self, sentence):
        with self._lock:
            self.count += 1
            if len(self.said) < self.most:
                self.said.append(sentence)

    def must(self, holds, sentence):
        if not holds:
            self.add(sentence)

    def report(self):
        """Print them; the exit code."""
        for sentence in self.said:
            say(f"VIOLATION  {sentence}")
        if self.count > len(self.said):
            say(f"… and {self.count - len(self.said)} more")
        say("FAILED" if self.count else "ok")
        return 1 if self.count else 0


def say(line):
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def sockets():
    """How many sockets this process has open."""
    count = 0
    for entry in FDS.iterdir():
        try:
            count += str(entry.readlink()).startswith("socket:")
        except OSError:
            continue  # closed since it was listed
    return count


def files():
    return sum(1 for _ in FDS.iterdir())


def resident():
    """Bytes of memory in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def threads():
    """Threads other than a client's watchdog, which stays for some seconds."""
    return sum(thread.name != WATCHDOG for thread in threading.enumerate())


def blocks():
    """Python's own allocations, after everything that can go has gone."""
    for _ in range(3):
        gc.collect()
    return sys.getallocatedblocks()


class Sampler(threading.Thread):
    """Looks at memory, sockets and threads four times a second, from `with` to its end."""

    def __init__(self):
        super().__init__(name="sampler", daemon=True)
        self.resident, self.sockets, self.threads = [], [], []
        self._over = threading.Event()

    def run(self):
        while not self._over.wait(0.25):
            self.resident.append(resident())
            self.sockets.append(sockets())
            self.threads.append(threading.active_count())

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self._over.set()
        self.join()

    def growth(self):
        """(bytes in use in the middle of the time, bytes in use at its end)."""
        quarter = max(1, len(self.resident) // 4)
        middle, end = self.resident[quarter : 2 * quarter], self.resident[-quarter:]
        return statistics.median(middle or [0]), statistics.median(end or [0])


def settled(reading, wanted, seconds=5.0):
    """A reading that should come down to a value soon: the last one taken."""
    until = time.monotonic() + seconds
    while (found := reading()) > wanted and time.monotonic() < until:
        time.sleep(0.05)
    return found
