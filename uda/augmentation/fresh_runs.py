"""A filter for pipelines: `fresh_runs.py PROGRAM ARGUMENT…` runs the program anew for every NUL-terminated record.

For apertium-tagger, which changes its own model whenever it meets a combination of readings that it was not trained on,
so that what it makes of a text would depend on the texts before it. The next run starts while the last one works.
"""

import os
import subprocess
import sys

_READ_BYTES = 1 << 16


def main(command: list[str]) -> int:
    """Answers the records of standard input until it ends; 1 where a run gives no record."""
    records = bytearray()
    waiting = _start(command)
    while received := os.read(sys.stdin.fileno(), _READ_BYTES):
        records += received
        while (end := records.find(b"\0")) >= 0:
            record = bytes(records[: end + 1])
            del records[: end + 1]
            run, waiting = waiting, _start(command)
            answer, separator, _ = run.communicate(record)[0].partition(b"\0")
            if not separator or run.returncode:
                waiting.kill()
                return 1
            sys.stdout.buffer.write(answer + b"\0")
            sys.stdout.buffer.flush()
    waiting.kill()
    return 0


def _start(command: list[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
