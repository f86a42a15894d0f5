"""Pipelines of programs that are kept running and answer one text after the other."""

import logging
import os
import re
import select
import shlex
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO

from uda.errors import UserError

log = logging.getLogger(__name__)

_SPECIAL = re.compile(r"[\^$\[\]{}/\\@<>]")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_IN_FLIGHT = 8  # texts that a pipeline has at a time: all its programs are busy, and few are sent again if one dies
_FIRST = -1  # the number of the empty text that every pipeline gets first
_READ_BYTES = 1 << 16
_START_SECONDS = 60.0  # at least, for programs that load their dictionaries
_END_SECONDS = 2.0
_EXCERPT = 80  # characters


class Pipelines:
    """`size` equal pipelines, fed side by side, that talk in Apertium's stream format.

    stages: the programs with their arguments, each of which reads what the one before it writes. The last one gives
    out records, each ending in `[number]` and NUL, in the order in which the first one got them.
    seconds: how long a pipeline may take for a text before it counts as hanging.
    """

    def __init__(self, stages: Sequence[Sequence[str]], size: int, seconds: float) -> None:
        self._stages = stages
        self._size = size
        self._seconds = seconds
        self._running: list[_Pipeline] = []

    def translate(self, texts: Sequence[str]) -> list[str | None]:
        """The translation of each text; None, and a line in the log, where a pipeline dies of it or hangs on it.

        Such a text is tried twice, the second time alone, so that no other text and no accident is to blame. Raises
        UserError where a pipeline does not even answer an empty text.
        """
        work = _Work(texts, self._seconds)
        try:
            while len(self._running) < self._size:
                self._running.append(self._start())
            while work.queue or any(pipeline.numbers for pipeline in self._running):
                work.feed(self._running)
                self._wait()
                for place, pipeline in enumerate(self._running):
                    failure = work.exchange(pipeline)
                    if failure:
                        self._give_back(pipeline, failure, work)
                        pipeline.stop()
                        self._running[place] = self._start()
        except BaseException:
            self.close()  # the next call must not meet answers to this one's texts
            raise
        return work.results

    def close(self) -> None:
        """Ends the programs."""
        while self._running:
            self._running.pop().stop()

    def _start(self) -> "_Pipeline":
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - `stop` closes it
        programs: list[subprocess.Popen[bytes]] = []
        for stage in self._stages:
            program = subprocess.Popen(
                stage,
                stdin=programs[-1].stdout if programs else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
                process_group=programs[0].pid if programs else 0,  # Ctrl-C is for us alone
                env={**os.environ, "LC_ALL": "C.UTF-8"},
            )
            if programs:
                _close(programs[-1].stdout)  # so that a program's end is seen by its neighbours
            programs.append(program)
        pipeline = _Pipeline(programs, errors)
        os.set_blocking(pipeline.stdin, False)
        os.set_blocking(pipeline.stdout, False)
        pipeline.add(_FIRST, "", time.monotonic() + max(self._seconds, _START_SECONDS))
        return pipeline

    def _wait(self) -> None:
        """Sleeps until a pipeline takes or gives bytes, or is overdue."""
        poll = select.poll()
        for pipeline in self._running:
            poll.register(pipeline.stdout, select.POLLIN)
            if pipeline.outgoing:
                poll.register(pipeline.stdin, select.POLLOUT)
        deadline = min(pipeline.deadline for pipeline in self._running if pipeline.numbers)
        poll.poll(max(deadline - time.monotonic(), 0) * 1000)

    def _give_back(self, pipeline: "_Pipeline", failure: str, work: "_Work") -> None:
        if pipeline.numbers and pipeline.numbers[0] == _FIRST:
            pipeline.errors.seek(0)
            said = pipeline.errors.read().decode(errors="replace").strip() or "it printed no reason"
            raise UserError(
                f"Expected a translator that runs, found that it {failure} at an empty text: {said}. Install its "
                f"packages again, and try what was run: {' | '.join(shlex.join(stage) for stage in self._stages)}"
            )
        work.give_back(pipeline, failure)


@dataclass(eq=False)
class _Pipeline:
    """Running programs, and the numbers of the texts that they were sent and have not answered yet."""

    programs: "list[subprocess.Popen[bytes]]"
    errors: IO[bytes]
    numbers: deque[int] = field(default_factory=deque)
    outgoing: bytearray = field(default_factory=bytearray)
    incoming: bytearray = field(default_factory=bytearray)
    deadline: float = 0.0  # by when the first of `numbers` has to be answered

    @property
    def stdin(self) -> int:
        return _descriptor(self.programs[0].stdin)

    @property
    def stdout(self) -> int:
        return _descriptor(self.programs[-1].stdout)

    def add(self, number: int, text: str, deadline: float) -> None:
        if not self.numbers:
            self.deadline = deadline
        self.numbers.append(number)
        self.outgoing += f"{escape(text)}{_mark(number)}\0".encode()

    def transfer(self) -> bool:
        """Moves what bytes can be moved without waiting; False once the programs have ended."""
        with suppress(BlockingIOError):
            try:
                while self.outgoing:
                    del self.outgoing[: os.write(self.stdin, self.outgoing)]
            except BrokenPipeError:
                self.outgoing.clear()  # the answers to earlier texts may still come
        with suppress(BlockingIOError):
            while received := os.read(self.stdout, _READ_BYTES):
                self.incoming += received
            return False
        return True

    def stop(self) -> None:
        _close(self.programs[0].stdin)
        if not self.numbers:
            with suppress(subprocess.TimeoutExpired):  # idle programs end by themselves, one after the other
                self.programs[-1].wait(_END_SECONDS)
        for program in self.programs:
            program.kill()
            program.wait()
        _close(self.programs[-1].stdout)
        self.errors.close()


class _Work:
    """The texts of one call: those that wait, in `queue`, and what became of the others."""

    def __init__(self, texts: Sequence[str], seconds: float) -> None:
        self.results: list[str | None] = [None] * len(texts)
        self.queue = deque(range(len(texts)))
        self._texts = texts
        self._seconds = seconds
        self._suspects: set[int] = set()

    def feed(self, pipelines: Sequence[_Pipeline]) -> None:
        """Gives the pipelines more texts, in turn, but a suspect none beside it."""
        while [pipeline for pipeline in pipelines if self._feed_one(pipeline)]:
            pass

    def _feed_one(self, pipeline: _Pipeline) -> bool:
        if not self.queue or len(pipeline.numbers) >= _IN_FLIGHT:
            return False
        if pipeline.numbers and not self._suspects.isdisjoint((self.queue[0], pipeline.numbers[0])):
            return False
        number = self.queue.popleft()
        pipeline.add(number, self._texts[number], time.monotonic() + self._seconds)
        return True

    def exchange(self, pipeline: _Pipeline) -> str:
        """Sends and receives; what went wrong with the first text of the pipeline, or an empty string."""
        runs = pipeline.transfer()
        while (end := pipeline.incoming.find(b"\0")) >= 0:
            record = pipeline.incoming[:end].decode(errors="replace")
            del pipeline.incoming[: end + 1]
            if not pipeline.numbers or not record.endswith(_mark(pipeline.numbers[0])):
                return "broke off its answer"
            number = pipeline.numbers.popleft()
            pipeline.deadline = time.monotonic() + self._seconds
            if number != _FIRST:
                self.results[number] = unescape(record.removesuffix(_mark(number)))
        if not runs:
            return "died"
        overdue = pipeline.numbers and time.monotonic() > pipeline.deadline
        return "gave no answer in time" if overdue else ""

    def give_back(self, pipeline: _Pipeline, failure: str) -> None:
        """Takes the texts from a failed pipeline, whose first one is to blame."""
        while len(pipeline.numbers) > 1:
            self.queue.appendleft(pipeline.numbers.pop())
        for number in pipeline.numbers:
            if number in self._suspects:
                excerpt = " ".join(self._texts[number].split())[:_EXCERPT]
                log.warning("a translator %s, so a text stays as it is: '%s'", failure, excerpt)
            else:
                self._suspects.add(number)
                self.queue.appendleft(number)


def escape(text: str) -> str:
    """A text as Apertium's stream has it: special characters behind a backslash, NUL, which ends a record, left out."""
    return _SPECIAL.sub(r"\\\g<0>", text.replace("\0", ""))


def unescape(text: str) -> str:
    """The reverse of `escape`, but for NUL."""
    return _ESCAPED.sub(r"\1", text)


def _descriptor(file: IO[bytes] | None) -> int:
    assert file is not None
    return file.fileno()


def _close(file: IO[bytes] | None) -> None:
    assert file is not None
    file.close()


def _mark(number: int) -> str:
    # A blank in the stream's sense. One at the end makes the programs give out the whole record, and the number tells
    # an answer from the rest that dying programs leave.
    return f"[{number}]"
