"""Check of training on a GPU: the speed and memory of a step, beside PyTorch training the same model."""
from __future__ import annotations

import json
import math
import os
import shutil
import statistics
import subprocess
from typing import Any, NamedTuple

from check_torch import WriteSamples
from training_context import Outcome, RandomText, Training
from training_judgement import (Bytes, DensePeak, Failed, FlopsPerToken, MemoryDeviation, ReadSteps, Table,
                                TokensPerSecond)
from training_runs import NotFinished, NotRun
from training_watch import GpuMemory

SHARE_AIM, RATIO_AIM = 0.45, 1.3
WARMUP = 4  # steps that are not timed
# A choice without a positive score sends no row, so with more of them experts do less than is counted.
MOST_ZERO_SCORES = 0.01
OURS = "unipool"
TORCH = {"PyTorch, weight gradients together": ["--weight_grads", "TOGETHER"],
         "PyTorch, as autograd does": ["--weight_grads", "PER_LAYER", "--compile", "MODEL"]}


class Measured(NamedTuple):
    tokens_per_second: float
    peak_bytes: int
    device_bytes: int | None  # as the driver sees it
    details: dict[str, Any]   # PyTorch's
    zero_scores: float = 0    # largest share of choices without a positive score, of the timed steps


class Bench:
    """The model, its samples, and what was measured."""

    def __init__(self, training: Training) -> None:
        self.training, self.steps = training, int(training.flags.bench_steps)
        # At a rate that moves little, so that the routing of all steps is that of the first.
        self.settings = training.LargeModel("train.lr=1e-5", "train.min_lr=1e-5")
        layers, hidden, length, batch = training.Fields(self.settings, "layers", "hidden", "seq_length", "global_batch")
        info = training.Info(*self.settings)
        self.flops = FlopsPerToken(info, layers, hidden, length)
        self.rows = batch * length * layers * training.Fields(self.settings, "top_k")[0]  # of choices that all have a score
        self.predicted_bytes = info["ranks"][0]["memory_bytes"]["total"]
        self.data, self.samples = training.runs.Path("bench.txt"), training.runs.Path("bench.samples")
        text = RandomText(self.data, self.steps * batch * length)
        WriteSamples(self.samples, text, self.steps * batch, length)
        self.measured: dict[str, list[Measured]] = {}
        self.notes: list[str] = []
        self.passed = True

    def Ours(self, name: str) -> Measured:
        runs = self.training.runs
        run_dir = runs.Path(name)
        with GpuMemory(seconds_between=2) as device:
            runs.RunTraining([runs.program, "train", *self.settings, f"data.train={self.data}", "data.split=1,0,0",
                              f"train.steps={self.steps}"], name, run_dir)
        metrics = ReadSteps(os.path.join(run_dir, "metrics.jsonl"))
        shutil.rmtree(run_dir)  # gigabytes of checkpoint
        zero_scores = max(metrics[step].get("zero_score_share", 0) for step in sorted(metrics)[WARMUP:])
        if zero_scores > MOST_ZERO_SCORES:
            self.passed = False
            self.notes.append(f"{OURS}: INVALID, {100 * zero_scores:.1f} % of the choices of a timed step had no positive score and "
                              f"sent no row; at most {100 * MOST_ZERO_SCORES:.0f} % may")
        return Measured(TokensPerSecond(metrics, WARMUP), metrics[max(metrics)]["peak_memory_bytes"], device.bytes, {}, zero_scores)

    def Torch(self, name: str, arguments: list[str]) -> Measured:
        with GpuMemory(seconds_between=2) as device:
            result = self.training.TorchJson(name, *self.settings, *arguments, "--samples", self.samples, "--steps",
                                             str(self.steps), "--warmup", str(WARMUP))
        if not all(map(math.isfinite, result["losses"] + result["grad_norms"])):
            raise Failed(f"{name}: losses {result['losses']}, gradient norms {result['grad_norms']}: not all are numbers")
        return Measured(result["tokens_per_second"], result["max_memory_allocated"], device.bytes, result)

    def Measure(self, kind: str, turn: int) -> None:
        name = f"bench-{kind.replace(' ', '-').replace(',', '')}-{turn}"
        try:
            result = self.Ours(name) if kind == OURS else self.Torch(name, TORCH[kind])
        except Failed as problem:
            self.passed = self.passed and kind != OURS
            self.notes.append(f"{kind}: {problem}")
        except NotFinished as problem:
            if self.training.is_cut and self.passed:  # what was measured so far stands in the report
                raise
            self.passed = self.passed and OURS in self.measured
            self.notes.append(f"{kind}: not finished in the limit ({problem})")
        else:
            self.measured.setdefault(kind, []).append(result)
            self.training.so_far = self.Paragraphs()
            if kind != OURS and turn == 0:
                kept = {key: result.details[key] for key in ("torch", "compile", "grouped", "attention", "notes")}
                self.notes.append(f"{kind}: {json.dumps(kept)}, max_memory_reserved "
                                  f"{Bytes(result.details['max_memory_reserved'])}")

    def Run(self) -> Outcome:
        kinds = [OURS, *TORCH]
        try:
            self.training.NeedTorch()
        except NotRun as why:
            self.notes.append(f"PyTorch: not run, {why}.")
            kinds = [OURS]
        for turn in range(2):  # there and back, so that what changes with time meets all alike
            for kind in kinds if turn == 0 else reversed(kinds):
                self.Measure(kind, turn)
        if OURS in self.measured:
            _, within = MemoryDeviation(self.measured[OURS][0].peak_bytes, self.predicted_bytes)
            self.passed = self.passed and within
        return Outcome(self.passed, "\n\n".join(self.Paragraphs()))

    def Paragraphs(self) -> list[str]:
        peak, rates = DensePeak(DeviceName()), dict[str, float]()
        rows = []
        for kind in [kind for kind in (OURS, *TORCH) if kind in self.measured]:
            results = self.measured[kind]
            rate = rates[kind] = statistics.median(result.tokens_per_second for result in results)
            share = f"{100 * self.flops * rate / 1e12 / peak:.1f} %" if peak else "peak not known"
            rows.append([kind, f"{rate:.0f}", f"{self.flops * rate / 1e12:.1f}", share, Bytes(results[0].peak_bytes),
                         Bytes(results[0].device_bytes), ", ".join(f"{result.tokens_per_second:.0f}" for result in results)])
        head = ["", "tokens/s", "TFLOP/s", "share of peak", "peak memory", "device, driver included", "each run"]
        text = [f"{self.flops / 1e9:.4f} GFLOP of model arithmetic a token: 6 for each weight of a matrix that a token meets "
                f"(no embedding), and 6 L s D for attention, causal. Tokens/s: median of the steps after {WARMUP}; peak "
                f"{peak or '?'} TFLOP/s dense bf16. Settings: {' '.join(self.settings[1:])}.", Table(head, rows)]
        if OURS in rates:
            text += self.Aims(rates, peak)
        return text + self.notes

    def Aims(self, rates: dict[str, float], peak: int | None) -> list[str]:
        ours = self.measured[OURS][0]
        deviation, within = MemoryDeviation(ours.peak_bytes, self.predicted_bytes)
        rows = self.rows * (1 - ours.zero_scores)
        text = [f"Choices without a positive score: {100 * ours.zero_scores:.2f} % in the timed step with most of them. Rows to "
                f"experts: {rows:.0f} a step.", f"Memory: {Bytes(ours.peak_bytes)}, info predicts {Bytes(self.predicted_bytes)} ({100 * deviation:+.1f} %; "
                f"within 10 %: {'passed' if within else 'FAILED'})."]
        if peak:
            share = self.flops * rates[OURS] / 1e12 / peak
            text.append(f"Aim {100 * SHARE_AIM:.0f} % of peak: {'reached' if share >= SHARE_AIM else 'MISSED'}.")
        if len(rates) > 1:
            ratio = rates[OURS] / max(rate for kind, rate in rates.items() if kind != OURS)
            text.append(f"Against the faster PyTorch: {ratio:.2f} times its tokens/s; aim {RATIO_AIM}: "
                        f"{'reached' if ratio >= RATIO_AIM else 'MISSED'}.")
        return text


def DeviceName() -> str:
    if not shutil.which("nvidia-smi"):
        return ""
    return subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True,
                          check=False).stdout.strip()


def CheckBench(training: Training) -> Outcome:
    return Bench(training).Run()
