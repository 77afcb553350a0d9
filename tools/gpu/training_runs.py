"""Runs of the program for gpu_training.py. Each is made once, under the limit of the check that wants it."""
from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from mpi_environment import MPI_ENVIRONMENT
from training_judgement import Failed, ReadSteps, Steps


class NotFinished(Exception):
    """The limit came first."""


class NotRun(Exception):
    """What a check needs is not here. That is no failure."""


class GpuMemory:
    """The largest memory in use on the device while this is entered, as the driver sees it, less what was used before."""

    def __init__(self, seconds_between: float = 0.2) -> None:
        self.seconds_between = seconds_between
        self.before: int | None = None
        self.most = 0
        self.stop = threading.Event()

    def __enter__(self) -> GpuMemory:
        self.before = self.Used()
        self.thread = threading.Thread(target=self.Watch)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()

    def Watch(self) -> None:
        while self.before is not None and not self.stop.wait(self.seconds_between):
            self.most = max(self.most, self.Used() or 0)

    @staticmethod
    def Used() -> int | None:
        try:
            done = subprocess.run(["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"], timeout=20,
                                  capture_output=True, text=True, check=True)
            return int(done.stdout.split()[0]) << 20
        except (OSError, ValueError, IndexError, subprocess.SubprocessError):
            return None

    @property
    def bytes(self) -> int | None:
        return self.most - self.before if self.before is not None and self.most else None


class FirstStep:
    """Seconds from the moment at which this is entered until a training run's first step began; None: there was no step."""

    def __init__(self, run_dir: str) -> None:
        self.metrics = os.path.join(run_dir, "metrics.jsonl")
        self.seconds: float | None = None
        self.stop = threading.Event()

    def __enter__(self) -> FirstStep:
        self.entered, self.lines_before = time.monotonic(), len(self.Lines())
        self.thread = threading.Thread(target=self.Watch)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()
        self.Look()  # the run may have ended since the last

    def Watch(self) -> None:
        while not self.Look() and not self.stop.wait(0.02):
            pass

    def Look(self) -> bool:
        now = time.monotonic()
        steps = [line for line in self.Lines()[self.lines_before:] if b'"step_seconds"' in line]
        if self.seconds is None and steps:
            self.seconds = max(0.0, now - self.entered - float(json.loads(steps[0])["step_seconds"]))
        return bool(steps)

    def Lines(self) -> list[bytes]:
        """Those that are written to their end."""
        try:
            with open(self.metrics, "rb") as file:
                return [line for line in file if line.endswith(b"\n")]
        except OSError:
            return []


class Runs:
    def __init__(self, program: str, mpirun: str) -> None:
        self.program, self.mpirun = os.path.abspath(program), mpirun
        self.work = tempfile.mkdtemp(prefix="unipool-gpu-training-")
        self.deadline = 0.0
        self.runs: dict[str, Steps | Exception] = {}
        self.starts: list[str] = []  # "NAME 1.2 s" of the training runs whose first step nobody has told yet

    def Close(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)

    def Path(self, *parts: str) -> str:
        return os.path.join(self.work, *parts)

    def Limit(self, seconds: float) -> None:
        """What is run from now on ends this many seconds from now."""
        self.deadline = time.monotonic() + seconds

    def Run(self, command: list[str], name: str, **settings: str) -> str:
        """Standard output of a command. It ends with the check's limit. `settings` are added to its environment."""
        environment = {**os.environ, **settings, "OMP_NUM_THREADS": "1", **MPI_ENVIRONMENT}
        output, errors = (open(os.path.join(self.work, f"{name}.{kind}"), "w+", encoding="utf-8", errors="replace")
                          for kind in ("out", "err"))
        with output, errors:
            process = subprocess.Popen(command, stdout=output, stderr=errors, env=environment, start_new_session=True)
            try:
                status = process.wait(max(0.1, self.deadline - time.monotonic()))
            except BaseException as end:  # its limit, or this program's own end
                Runs.End(process)
                if isinstance(end, subprocess.TimeoutExpired):
                    raise NotFinished(f"{name} was ended") from None
                raise
            output.seek(0)
            errors.seek(0)
            text = output.read()
            if status != 0:
                tail = "\n".join((text + errors.read()).strip().splitlines()[-12:])
                raise Failed(f"{name}: exit status {status}\n```\n{' '.join(command)}\n{tail}\n```")
            return text

    def RunTraining(self, command: list[str], name: str, run_dir: str, **settings: str) -> None:
        """As Run, and notes when the first step began."""
        first = FirstStep(run_dir)
        try:
            with first:
                self.Run([*command, f"run_dir={run_dir}"], name, **settings)
        finally:
            self.starts.append(f"{name} {first.seconds:.1f} s" if first.seconds is not None else f"{name} made no step")

    def TellStarts(self) -> str:
        """A paragraph on the training runs since the last call, or an empty text."""
        starts, self.starts = self.starts, []
        return f"Time from the start of the program until its first step began: {', '.join(starts)}." if starts else ""

    def Said(self, name: str, start: str) -> str:
        """What a command said on standard error in the first line that begins so, or an empty text."""
        with open(os.path.join(self.work, f"{name}.err"), encoding="utf-8", errors="replace") as file:
            return next((line.strip() for line in file if line.startswith(start)), "")

    @staticmethod
    def End(process: subprocess.Popen[bytes]) -> None:
        """Asks first: mpirun then ends its ranks."""
        for how, patience in ((signal.SIGTERM, 5), (signal.SIGKILL, None)):
            try:
                os.killpg(process.pid, how)
            except ProcessLookupError:
                pass
            try:
                process.wait(patience)
                return
            except subprocess.TimeoutExpired:
                pass

    def Train(self, name: str, *settings: str, mpi: int = 0) -> Steps:
        """Steps of a run. The run of a name is made once, also if it comes to a bad end. mpi: ranks under mpirun."""
        if name not in self.runs:
            run_dir = os.path.join(self.work, name)
            launcher = [self.mpirun, "--bind-to", "none", "-np", str(mpi)] if mpi else []
            try:
                self.RunTraining([*launcher, self.program, "train", *settings], name, run_dir)
                self.runs[name] = ReadSteps(os.path.join(run_dir, "metrics.jsonl"))
            except (Failed, NotFinished) as problem:
                self.runs[name] = problem
        run = self.runs[name]
        if isinstance(run, Exception):
            raise run
        return run
