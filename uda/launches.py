"""What torch says of a launch of several processes that does not come about, or falls apart, in words for people."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from uda import cli
from uda.errors import UserError


@contextmanager
def losses_told(timeout: float, key: str, what_next: str) -> Iterator[None]:
    """Where torch fails because another process is gone, or another program has the port, that is what is said.

    timeout: seconds, as the setting `key` says, after which a process is given up.
    """
    from uda.engine.watch import lost_another, port_is_taken

    try:
        yield
    except RuntimeError as error:
        if port_is_taken(error):
            raise UserError(
                f"Expected a free port for the first process to listen on, found {os.environ.get('MASTER_PORT')} "
                "(MASTER_PORT) in use by another program, such as another launch. Give a free one: MASTER_PORT=… for "
                "processes started by hand, torchrun --master_port …, accelerate launch --main_process_port …"
            ) from error
        if (reason := lost_another(error)) is None:
            raise
        raise cli.Interrupted(
            f"another process is gone, or has not answered within {key}={timeout:g} seconds ({reason}); {what_next}", 1
        ) from error
