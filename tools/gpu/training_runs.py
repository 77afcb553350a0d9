"""Runs of the program for gpu_training.py. Each is made once, under the limit of the check that wants it."""
from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from mpi_environment import MPI_ENVIRONMENT
from training_judgement import Failed, ReadSteps, Steps, StepsOf
from training_watch import FirstStep, WrittenLines


class NotFinished(Exception):
    """The limit came first."""


class NotRun(Exception):
    """What a check needs is not here. That is no failure."""


class Runs:
    def __init__(self, program: str, mpirun: str) -> None:
        self.program, self.mpirun = os.path.abspath(program), mpirun
        self.work = tempfile.mkdtemp(prefix="unipool-gpu-training-")
        self.deadline = 0.0
        self.runs: dict[str, Steps | Exception] = {}
        self.beside: dict[str, threading.Thread] = {}  # runs that were begun and go on beside others
        self.processes: set[subprocess.Popen[bytes]] = set()
        self.starts: list[str] = []  # "NAME 1.2 s" of the training runs whose first step nobody has told yet

    def Close(self) -> None:
        for thread in self.beside.values():
            while thread.is_alive():
                for process in list(self.processes):
                    self.End(process)
                thread.join(0.1)
        shutil.rmtree(self.work, ignore_errors=True)

    def Path(self, *parts: str) -> str:
        return os.path.join(self.work, *parts)

    def Limit(self, seconds: float) -> None:
        """What is run from now on ends this many seconds from now."""
        self.deadline = time.monotonic() + seconds

    def Run(self, command: list[str], name: str, **settings: str) -> str:
        """Standard output of a command. It ends with the check's limit, beside others with Close. `settings` are added to its
        environment."""
        limit = None if name in self.beside else max(0.1, self.deadline - time.monotonic())
        environment = {**os.environ, **settings, "OMP_NUM_THREADS": "1", **MPI_ENVIRONMENT}
        output, errors = (open(os.path.join(self.work, f"{name}.{kind}"), "w+", encoding="utf-8", errors="replace")
                          for kind in ("out", "err"))
        with output, errors:
            process = subprocess.Popen(command, stdout=output, stderr=errors, env=environment, start_new_session=True)
            self.processes.add(process)
            try:
                status = process.wait(limit)
            except BaseException as end:  # its limit, or this program's own end
                Runs.End(process)
                if isinstance(end, subprocess.TimeoutExpired):
                    raise NotFinished(f"{name} was ended") from None
                raise
            finally:
                self.processes.discard(process)
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
            if name not in self.beside:
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
        if name in self.beside:
            self.beside[name].join(max(0.1, self.deadline - time.monotonic()))
            if self.beside[name].is_alive():
                raise NotFinished(f"{name} is still under way, at step {len(self.SoFar(name))}")
        if name not in self.runs:
            self.Make(name, settings, mpi)
        run = self.runs[name]
        if isinstance(run, Exception):
            raise run
        return run

    def Make(self, name: str, settings: tuple[str, ...], mpi: int) -> None:
        run_dir = os.path.join(self.work, name)
        launcher = [self.mpirun, "--bind-to", "none", "-np", str(mpi)] if mpi else []
        try:
            self.RunTraining([*launcher, self.program, "train", *settings], name, run_dir)
            self.runs[name] = ReadSteps(os.path.join(run_dir, "metrics.jsonl"))
        except (Failed, NotFinished, OSError) as problem:
            self.runs[name] = problem

    def Begin(self, name: str, *settings: str) -> None:
        """Makes the run of this name beside what follows. Train waits for it, SoFar does not."""
        self.beside[name] = threading.Thread(target=self.Make, args=(name, settings, 0))
        self.beside[name].start()

    def SoFar(self, name: str) -> Steps:
        """The steps that a run which was begun has made."""
        return StepsOf(WrittenLines(os.path.join(self.work, name, "metrics.jsonl")), name)

    def Await(self, name: str, steps: int) -> Steps:
        """The steps of a run that was begun, as soon as there are so many."""
        while len(made := self.SoFar(name)) < steps:
            if not self.beside[name].is_alive():
                return self.Train(name)
            if time.monotonic() > self.deadline:
                raise NotFinished(f"{name} is at step {len(made)}")
            time.sleep(0.1)
        return made
