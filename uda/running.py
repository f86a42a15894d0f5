"""What the commands that train share: processes that are started and watched, and what ends them, told."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from uda import cli
from uda.files import unwritable
from uda.launches import losses_told
from uda.run_directory import has_checkpoint

if TYPE_CHECKING:
    from uda.engine.process import Process
    from uda.engine.settings import TrainSettings


@contextmanager
def started_process(train: "TrainSettings", folder: Path) -> Iterator["Process"]:
    """This process among those that were launched, watched until the block ends; see `losses_told`."""
    from uda.engine.process import Process

    what_next = f"the same command goes on from the last checkpoint in {folder / 'checkpoints'}"
    with losses_told(train.process_timeout, "train.process_timeout", what_next):
        process = Process.start(train.precision, train.process_timeout)
        try:
            yield process
        finally:
            process.stop_watching()


@contextmanager
def ends_told(folder: Path) -> Iterator[None]:
    """A stop by a signal, after its checkpoint, and a disk that is full or cannot be written become messages."""
    from uda.engine.signals import Stop

    try:
        yield
    except Stop as stop:
        checkpoints = folder / "checkpoints"
        what_next = f"goes on from the checkpoint in {checkpoints}" if has_checkpoint(folder) else "starts anew"
        raise cli.Interrupted(f"{stop}; the same command {what_next}", stop.exit_code) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise unwritable(folder, error) from error
        raise
