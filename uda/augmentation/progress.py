"""How far a long augmentation is: one bar, or a line a minute where nobody looks at a terminal."""

import logging
import time
from datetime import timedelta

from tqdm import tqdm

log = logging.getLogger(__name__)

_SECONDS_A_LINE = 60.0


class Progress:
    """Counts texts; a context manager. total: the texts in all, of which the cache had `found`."""

    def __init__(self, total: int, found: int, name: str) -> None:
        self._total = total
        self._found = found
        self.done = found
        self.computed = 0
        self.kept = 0  # computed ones that are the original
        self._started = self._told = time.monotonic()
        self._bar = tqdm(total=total, initial=found, desc=name, unit=" texts", disable=None, smoothing=0.1)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self._started

    def add(self, done: int, computed: int, kept: int) -> None:
        """Count texts that are done; of them some were computed, and of these some kept as the original."""
        self.done += done
        self.computed += computed
        self.kept += kept
        if self.computed:
            self._bar.set_postfix_str(f"{100 * self.kept / self.computed:.1f} % kept as original", refresh=False)
        self._bar.update(done)
        if self._bar.disable and time.monotonic() - self._told >= _SECONDS_A_LINE:
            self._told = time.monotonic()
            log.info(self.line())

    def finish(self) -> None:
        """Count what is left: texts that are equal to others, or that another process has made meanwhile."""
        self.add(self._total - self.done, computed=0, kept=0)

    def line(self) -> str:
        """Texts done, texts a second, time left, share kept as original."""
        rate = (self.done - self._found) / max(self.seconds, 1e-9)
        left = timedelta(seconds=round((self._total - self.done) / rate)) if rate else "unknown time"
        kept = 100 * self.kept / max(self.computed, 1)
        return f"{self.done} of {self._total} texts, {rate:.1f} a second, {left} left, {kept:.1f} % kept as original"
