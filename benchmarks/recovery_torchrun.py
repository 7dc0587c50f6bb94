"""The benchmark's side of torchrun: an agent that starts the script again when its process dies."""

import contextlib
import subprocess
from pathlib import Path

import psutil

from benchmarks.processes import ROOT, end, eventually, family, kill, start
from benchmarks.recovery_case import Case
from benchmarks.step_log import StepLog

JOB = "torchrun"
SCRIPT = ROOT / "benchmarks" / "torchrun_job.py"


class Torchrun:
    """``with`` it, and nothing is left running."""

    def __init__(self, home: Path, case: Case, data: Path) -> None:
        home.mkdir(parents=True)
        self.log = StepLog(home / "moments.log")
        self._output = home / "torchrun.log"
        self._script = [
            str(SCRIPT),
            *(f"--data={data}", f"--checkpoint={home / 'checkpoint.pth'}", f"--moments={self.log.path}"),
            *case.arguments(),
        ]
        self._environment = {} if case.threads is None else {"OMP_NUM_THREADS": str(case.threads)}
        self._agent: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Torchrun":
        options = ["--standalone", "--nproc-per-node=1", "--max-restarts=100000"]
        arguments = ["-m", "torch.distributed.run", *options, *self._script]
        self._agent = start(arguments, self._output, self._environment)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._agent is not None
        end(self._agent)

    def kill(self) -> float:
        """The process that trains; the agent stays."""
        return kill([eventually(self._trainer, seconds=30, what="the script's process")])

    def _trainer(self) -> psutil.Process | None:
        assert self._agent is not None
        for process in family(self._agent.pid)[1:]:
            with contextlib.suppress(psutil.Error):  # it may end while it is looked at
                if str(SCRIPT) in process.cmdline():
                    return process
        return None
