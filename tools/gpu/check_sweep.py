"""Check of training on a GPU: the speed and memory of a step by the sizes that memory is spent on. Each row stands in the report
as soon as it is measured."""
from __future__ import annotations

import os
import shutil
import time

from check_bench import MOST_ZERO_SCORES, SHARE_AIM, DeviceName
from training_context import Outcome, RandomText, Training
from training_judgement import Bytes, DensePeak, Failed, FlopsPerToken, ReadSteps, TokensPerSecond
from training_runs import NotFinished

BATCH = 128  # sequences of a step: two microbatches of 64, so that both lanes work
# (train.micro_batch, train.weight_grad_slots), most informative first: what should be fastest, what is smallest, the middle,
# the other corners, and what lies between.
SIZES = [(64, 12), (16, 4), (32, 8), (64, 4), (16, 12), (32, 12), (64, 8), (16, 8), (32, 4)]
NO_MEMORY = "has no memory left"  # what the program says then (kernels/cuda/device_memory_cuda.cc)
WARMUP = 2  # steps that are not timed
HEAD = ["train.micro_batch", "train.weight_grad_slots", "tokens/s", "TFLOP/s", "share of peak", "peak memory", "seconds of the run"]


class Sweep:
    def __init__(self, training: Training) -> None:
        self.training, self.steps = training, max(WARMUP + 1, int(training.flags.bench_steps) // 2)
        # As in the bench: a rate that moves little.
        self.settings = [*training.LargeModel("train.lr=1e-5", "train.min_lr=1e-5"), f"train.global_batch={BATCH}"]
        layers, hidden, length = training.Fields(self.settings, "layers", "hidden", "seq_length")
        self.flops = FlopsPerToken(training.Info(*self.settings), layers, hidden, length)
        self.peak = DensePeak(DeviceName())
        self.data = training.runs.Path("sweep.txt")
        RandomText(self.data, self.steps * BATCH * length)
        self.rates: dict[tuple[int, int], float] = {}
        self.problems: list[str] = []
        self.passed = True

    def Measure(self, micro_batch: int, slots: int) -> list[str]:
        """The last columns of a row."""
        runs, name = self.training.runs, f"sweep-{micro_batch}-{slots}"
        run_dir, begin = runs.Path(name), time.monotonic()
        runs.Run([runs.program, "train", *self.settings, f"train.micro_batch={micro_batch}", f"train.weight_grad_slots={slots}",
                  f"data.train={self.data}", "data.split=1,0,0", f"train.steps={self.steps}", f"run_dir={run_dir}"], name)
        metrics = ReadSteps(os.path.join(run_dir, "metrics.jsonl"))
        shutil.rmtree(run_dir)
        if max(metrics[step].get("zero_score_share", 0) for step in sorted(metrics)[WARMUP:]) > MOST_ZERO_SCORES:
            raise Failed(f"INVALID, more than {100 * MOST_ZERO_SCORES:.0f} % of the choices sent no row")
        rate = self.rates[micro_batch, slots] = TokensPerSecond(metrics, WARMUP)
        return [f"{rate:.0f}", f"{self.flops * rate / 1e12:.1f}", self.Share(rate), Bytes(metrics[max(metrics)]["peak_memory_bytes"]),
                f"{time.monotonic() - begin:.1f}"]

    def Share(self, rate: float) -> str:
        return f"{100 * self.flops * rate / 1e12 / self.peak:.1f} %" if self.peak else "peak not known"

    def Row(self, cells: list[object]) -> None:
        self.training.Tell("| " + " | ".join(str(cell) for cell in cells) + " |\n")

    def Run(self) -> Outcome:
        self.training.Tell(f"Sweep of sizes, {self.steps} steps of {BATCH} sequences, {WARMUP} of them not timed. Settings: "
                           f"{' '.join(self.settings[1:])}.\n\n")
        self.Row([*HEAD])
        self.Row(["---"] * len(HEAD))
        left = list(SIZES)
        try:
            while left:
                try:
                    cells = self.Measure(*left[0])
                except Failed as problem:
                    self.passed = self.passed and NO_MEMORY in str(problem)
                    self.problems.append(f"{left[0]}: {problem}")
                    cells = ["no memory" if NO_MEMORY in str(problem) else "FAILED", *[""] * (len(HEAD) - 3)]
                self.Row([*left.pop(0), *cells])
                self.training.so_far = self.Paragraphs(left)
        except NotFinished:
            if self.training.is_cut or not self.rates:
                raise
        finally:
            self.training.Tell("\n")
        return Outcome(self.passed and bool(self.rates), "\n\n".join(self.Paragraphs(left)))

    def Paragraphs(self, left: list[tuple[int, int]]) -> list[str]:
        text = [f"Not measured, as (micro_batch, slots): {', '.join(map(str, left))}."] if left else []
        if self.rates:
            best = max(self.rates, key=lambda sizes: self.rates[sizes])
            share = self.flops * self.rates[best] / 1e12 / self.peak if self.peak else None
            aim = f" Aim {100 * SHARE_AIM:.0f} % of peak: {'reached' if share >= SHARE_AIM else 'MISSED'}." if share is not None else ""
            text.insert(0, f"Fastest: micro_batch {best[0]}, {best[1]} slots, {self.rates[best]:.0f} tokens/s, {self.Share(self.rates[best])}.{aim}")
        return text + self.problems


def CheckSweep(training: Training) -> Outcome:
    return Sweep(training).Run()
