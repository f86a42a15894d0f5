"""A process that has imported everything; it starts commands as forks of itself, which takes no seconds.

Reads a request a line. {"argv", "cwd", "env", "input", "out", "log"} forks a process that does what `python argv…`
does and answers with its id; {"poll": id} answers with its exit code, or null. Ranks of torchrun, `argv` being
`-m torch.distributed.run …`, are forks of the launcher.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

# What a training imports at its first use.
WARM = [
    *("PIL.PngImagePlugin", "pandas", "sklearn.metrics", "tensorboard.plugins.hparams.summary_v2"),
    *("torch.distributed.run", "torch.utils.tensorboard", "transformers.models.bert.modeling_bert"),
    *("transformers.models.bert.tokenization_bert", "uda.adapt", "uda.augment", "uda.augmentation.tfidf"),
    *("uda.build", "uda.choices", "uda.data.splits"),
    *("uda.engine.evaluation", "uda.engine.export", "uda.engine.training", "uda.evaluate", "uda.finish"),
    *("uda.objectives.uda", "uda.predict", "uda.train"),
]


def become(argv: Sequence[str]) -> None:
    """Do what `python argv…` does."""
    if argv[0] == "-u":
        argv = argv[1:]
    if argv[0] == "-m":
        sys.argv = list(argv[1:])
        sys.modules.pop(argv[1], None)  # it becomes __main__
        runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(argv)
        sys.path.insert(0, str(Path(argv[0]).parent))
        runpy.run_path(argv[0], run_name="__main__")


def use_environment(env: Mapping[str, str], cwd: str) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = [cwd, *env.get("PYTHONPATH", "").split(os.pathsep)]


class Rank:
    """What torchrun asks of the `subprocess.Popen` of one of its processes."""

    def __init__(self, args: Sequence[str], env: Mapping[str, str]) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if not self.pid:
            self._run(args[1:], env)

    def poll(self) -> int | None:
        return self._wait(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int | None:
        until = threading.Event()
        for _ in range(10**9 if timeout is None else int(timeout / 0.01)):
            if self.poll() is not None:
                break
            until.wait(0.01)
        return self.returncode

    def _wait(self, options: int) -> int | None:
        if self.returncode is None:
            found, status = os.waitpid(self.pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if found else None
        return self.returncode

    @staticmethod
    def _run(argv: Sequence[str], env: Mapping[str, str]) -> NoReturn:
        """Away from the launcher: a session of its own, none of its files, handlers and last words."""
        os.setsid()
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        gc.freeze()  # what holds one of those files is never collected
        atexit._clear()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        use_environment(env, str(Path.cwd()))
        code: Any = 1
        try:
            become(argv)
            code = 0
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)


def serve() -> None:
    sys.path.pop(0)  # the folder of this file
    for name in WARM:
        importlib.import_module(name)
    from PIL import Image
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    from uda.config import compose

    Image.init()
    compose("train", ["+experiment=imdb"])
    subprocess_handler.SubprocessHandler._popen = lambda self, args, env: Rank(args, env)
    gc.collect()
    gc.freeze()
    codes: dict[int, int | None] = {}
    while line := sys.stdin.readline():
        request = json.loads(line)
        if "poll" in request:
            pid = request["poll"]
            if codes.get(pid) is None:
                found, status = os.waitpid(pid, os.WNOHANG)
                codes[pid] = os.waitstatus_to_exitcode(status) if found else None
            print(json.dumps(codes[pid]), flush=True)
            continue
        pid = os.fork()
        if not pid:
            os.setsid()
            for number, file in enumerate((request["input"], request["out"], request["log"])):
                opened = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND)
                os.dup2(opened, number)
                os.close(opened)
            use_environment(request["env"], request["cwd"])
            become(request["argv"])
            sys.exit(0)
        codes.pop(pid, None)  # of an earlier command that had this id
        print(pid, flush=True)


if __name__ == "__main__":
    serve()
