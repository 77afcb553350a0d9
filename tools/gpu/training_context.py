"""What all checks of gpu_training.py have: the flags, the settings of their models, and the runs that several share."""
from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

from training_judgement import BoundAt, CompareLosses, Steps, Table
from training_runs import NotRun, Runs

FP32_BOUND, BF16_BOUND = 1e-4, 2e-2  # relative difference of losses
GPU_FP32 = ["device=CUDA", "train.precision=FP32"]
GPU_BF16 = ["device=CUDA", "train.precision=BF16"]


class Outcome(NamedTuple):
    """Of a check. The text is for the report."""
    passed: bool
    text: str


class Row(NamedTuple):
    """Losses to compare."""
    what: str
    reference: Steps
    run: Steps
    steps: Iterable[int]
    bound: float


def Bound(row: Row) -> str:
    last = BoundAt(row.bound, len(list(row.steps)) - 1)
    return f"{row.bound:.0e}" + (f", {last:.0e} at the last step" if last > row.bound else "")


def Compared(rows: list[Row]) -> Outcome:
    results = [(row, CompareLosses(row.reference, row.run, row.steps, row.bound)) for row in rows]
    table = [[row.what, "passed" if result.passed else "FAILED", result, Bound(row)] for row, result in results]
    return Outcome(all(result.passed for _, result in results), Table(["losses", "outcome", "difference", "bound"], table))


def RandomText(path: str, tokens: int) -> bytes:
    """Random bytes: every sample is another one, routing is real."""
    text = random.Random(1).randbytes(tokens + 1)
    with open(path, "wb") as file:
        file.write(text)
    return text


class Training:
    """Made once, handed to every check. `flags` are those of gpu_training.py."""

    def __init__(self, flags: argparse.Namespace) -> None:
        self.flags, self.steps = flags, int(flags.steps)
        self.runs = Runs(flags.program, flags.mpirun)
        self.is_cut = False  # the running check has less than its limit: what the total limit left
        self.so_far: list[str] = []  # what the running check knows already, for a report if it does not come to its end
        self.demo = [os.path.join(flags.configs, "demo.txtpb"), f"data.train={os.path.abspath(flags.text)}",
                     "train.eval_every=0", "parallel.ranks=1", *flags.demo.split()]
        # Of a run of all steps that leaves a checkpoint in the middle.
        self.long = [f"train.steps={self.steps}", f"train.save_every={self.steps // 2}", "train.keep_checkpoints=0"]

    def Tell(self, text: str) -> None:
        """Writes a piece of the report at once, in front of the outcome of the check that runs."""
        with open(self.flags.report, "a", encoding="utf-8") as report:
            report.write(text)

    def LargeModel(self, *settings: str) -> list[str]:
        """Settings of the model whose speed counts."""
        return [os.path.join(self.flags.configs, "unipool_182m.txtpb"), *GPU_BF16, "train.micro_batch=16",
                "train.eval_every=0", "train.save_every=0", "train.save_at_end=false", "parallel.ranks=1", *settings,
                *self.flags.bench.split()]

    def Train(self, name: str, *settings: str, mpi: int = 0) -> Steps:
        return self.runs.Train(name, *self.demo, *settings, mpi=mpi)

    def Short(self, name: str, *settings: str, mpi: int = 0) -> Steps:
        return self.Train(name, f"train.steps={self.short_steps}", "train.save_every=0", *settings, mpi=mpi)

    @property
    def short_steps(self) -> int:
        return max(4, self.steps // 4)

    def AllSteps(self) -> range:
        return range(1, self.steps + 1)

    def ShortSteps(self) -> range:
        return range(1, self.short_steps + 1)

    def BeginCpu(self) -> None:
        """The reference takes minutes of one core, and goes on beside what the GPU does."""
        self.runs.Begin("cpu", *self.demo, *self.long, "device=CPU")

    def Cpu(self) -> Steps:
        return self.runs.Train("cpu")

    def Gpu(self) -> Steps:
        return self.Train("gpu-fp32", *self.long, *GPU_FP32)

    def OneRank(self) -> Steps:
        return self.Short("one-rank", *GPU_FP32)

    def Info(self, *settings: str) -> dict[str, Any]:
        info: dict[str, Any] = json.loads(self.runs.Run([self.runs.program, "info", *settings, "--json"], "info"))
        return info

    def Fields(self, settings: list[str], *names: str) -> list[int]:
        """Integers of the configuration as it is resolved."""
        config = self.runs.Run([self.runs.program, "info", *settings, "--print_config"], "config")
        found = [re.search(rf"^  {name}: (\d+)", config, re.MULTILINE) for name in names]
        return [int(field[1]) for field in found if field]

    def NeedTorch(self) -> list[str]:
        """The command that runs torch_unipool.py. Raises NotRun."""
        python = os.environ.get("UNIPOOL_TORCH_PYTHON", sys.executable)
        if not os.path.isfile(self.flags.torch):
            raise NotRun("torch_unipool.py is not here")
        # torch.nn, because any folder that is called torch would pass for torch.
        if subprocess.run([python, "-c", "import torch.nn"], capture_output=True, check=False).returncode != 0:
            raise NotRun(f"{python} has no PyTorch; UNIPOOL_TORCH_PYTHON names one that has")
        return [python, self.flags.torch]

    def TorchJson(self, name: str, *arguments: str) -> dict[str, Any]:
        output = self.runs.Run([*self.NeedTorch(), *arguments], name)
        result: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
        return result
