"""What a process of several does about the others and the launcher: waits for them, and notices that they are gone."""

import itertools
import logging
import os
import re
import signal
import threading
import time
from datetime import timedelta

import torch.distributed as dist

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0  # between two looks at the launcher and the others
_POLL_SECONDS = 0.05
_LAST_SECONDS = 20.0  # to end in order, after the others were found gone; the launcher gives 30
_ENDED = 1  # exit status of a process that had to be torn out of what it waited in
# What gloo says, in a plain RuntimeError, where another process is gone or does not answer.
_GLOO = ("gloo/", "[gloo]", "Connection closed by peer", "Connection reset by peer", "Timed out waiting")

_meetings = itertools.count()


class Watch(threading.Thread):
    """Tells the other processes every second that this one is there, and looks whether they and the launcher are.

    It reads and writes numbers in the store by which the launch found together, so it sees a process that is stopped
    or whose machine is lost while this one computes, reads files or waits. Where the launcher is gone or another
    process has given no sign for `timeout` seconds, this process gets SIGTERM, as from a launcher, and with it the
    chance to end in order; if it does not take that, it is ended.
    """

    def __init__(self, rank: int, count: int, timeout: float) -> None:
        super().__init__(name="watch", daemon=True)
        self.rank = rank
        self.count = count
        self.timeout = timeout
        self._launcher = os.getppid()
        self._stopped = threading.Event()
        self._own, self._shared = _store(timeout), _store(timeout)  # of the thread, and of those who wait

    def wait_for_all(self) -> None:
        """Until all processes are here, however long their work takes, as long as they give signs of life."""
        meeting = f"meeting-{next(_meetings)}"
        self._shared.add(meeting, 1)
        while self._shared.add(meeting, 0) < self.count:
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """Look no longer; the thread ends at its next look."""
        self._stopped.set()

    def run(self) -> None:
        others = [rank for rank in range(self.count) if rank != self.rank]
        signs = dict.fromkeys(others, (-1, time.monotonic()))
        while not self._stopped.wait(_LOOK_SECONDS):
            if os.getppid() != self._launcher:
                return self._end("the launcher is gone", self.timeout)
            try:
                self._own.add(f"sign-{self.rank}", 1)
                found = {rank: self._own.add(f"sign-{rank}", 0) for rank in others}
            except RuntimeError as error:
                return self._end(f"the launcher's store is gone ({_shortened(error)})", self.timeout)
            now = time.monotonic()
            signs |= {rank: (number, now) for rank, number in found.items() if number != signs[rank][0]}
            for rank, (_, since) in signs.items():
                if now - since > self.timeout:
                    return self._end(f"process {rank} has given no sign for {now - since:.0f} s", _LAST_SECONDS)

    def _end(self, reason: str, seconds: float) -> None:
        """End this process in order within so many seconds, or else at once; returns where the watch was stopped."""
        if self._stopped.is_set():
            return
        log.error("process %d of %d: %s; this one ends too", self.rank, self.count, reason)
        os.kill(os.getpid(), signal.SIGTERM)
        if not self._stopped.wait(seconds):
            log.error("process %d of %d: still waiting after %.0f s: ended as it is", self.rank, self.count, seconds)
            os._exit(_ENDED)


def port_is_taken(error: RuntimeError) -> bool:
    """Whether the error says that another program listens where the first process was to."""
    return isinstance(error, dist.DistNetworkError) and "EADDRINUSE" in str(error)


def lost_another(error: RuntimeError) -> str | None:
    """Why another process cannot be reached, in a line, if that is what the error says."""
    known = isinstance(error, dist.DistError) or any(part in str(error) for part in _GLOO)
    return _shortened(error) if known else None


def _shortened(error: Exception) -> str:
    """The first line of what torch says, without the file of its source at the start and the advice at the end."""
    line = next(iter(str(error).splitlines()), type(error).__name__)
    return re.sub(r"^\[\S+:\d+\] ", "", line).partition(". This is typically")[0]


def _store(timeout: float) -> dist.Store:
    """A connection of its own to the store of the launch, which init_process_group's environment names."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.TCPStore(address, port, is_master=False, timeout=timedelta(seconds=timeout))
    # torchrun may start all processes anew beside the same store: what was said before counts no more.
    return dist.PrefixStore(f"uda-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
