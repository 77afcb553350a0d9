"""What gpu_training.py judges runs by: pure functions of metrics, tested without a GPU (tests/gpu_training_test.py)."""
from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

Steps = dict[int, dict[str, Any]]  # step: its line of metrics.jsonl


class Failed(Exception):
    """A check came to a bad end. The text is for the report."""


def ReadSteps(path: str) -> Steps:
    """The steps of a run's metrics.jsonl. Raises Failed where there is no file or no step, or a step twice."""
    try:
        with open(path, encoding="utf-8") as file:
            steps = StepsOf(file, path)
    except (OSError, ValueError) as error:
        raise Failed(f"{path}: {error}") from error
    if not steps:
        raise Failed(f"{path}: no step is there")
    return steps


def StepsOf(lines: Iterable[str | bytes], path: str) -> Steps:
    """The steps of whole lines. Raises ValueError where a line is none, and Failed where a step is there twice."""
    steps: Steps = {}
    for line in map(json.loads, lines):
        if "loss" not in line:
            continue  # a validation
        if line["step"] in steps:
            raise Failed(f"{path}: step {line['step']} is there twice")
        steps[line["step"]] = line
    return steps


# Devices round differently, and training takes such differences further apart with every step: a token near the border of two
# experts goes to another one. A defect is there from the first steps on. So the bound holds as it is for EXACT of the steps that
# are compared, then grows by GROWTH a step, up to MOST (or the bound itself, if that is larger).
EXACT, GROWTH, MOST = 25, 1.03, 2e-2
NOTED = 1e-5  # the first difference above this is told, whatever the bound


def BoundAt(bound: float, index: int) -> float:
    """Of the index-th step that is compared, from 0."""
    return min(max(MOST, bound), bound * GROWTH ** max(0, index - EXACT + 1))


class Comparison:
    """Losses of a run against the losses of a reference, step by step. Both must have all of `steps`."""

    def __init__(self, reference: Steps, run: Steps, steps: Sequence[int], bound: float) -> None:
        missing = [step for step in steps if step not in reference or step not in run]
        if missing or not steps:
            raise Failed(f"steps {missing[:5]} of {len(steps)} are missing")
        self.bound, self.steps = bound, len(steps)
        self.first_apart: int | None = None
        self.first_noted: int | None = None
        self.largest, self.largest_at = 0.0, steps[0]
        for index, step in enumerate(steps):
            ours, theirs = run[step]["loss"], reference[step]["loss"]
            is_number = all(isinstance(loss, float) and math.isfinite(loss) for loss in (ours, theirs))
            difference = abs(ours - theirs) / abs(theirs) if is_number and theirs else math.inf
            if difference > BoundAt(bound, index) and self.first_apart is None:
                self.first_apart, self.bound = step, BoundAt(bound, index)
            if difference > NOTED and self.first_noted is None:
                self.first_noted = step
            if difference > self.largest:
                self.largest, self.largest_at = difference, step
        # Losses that do not move agree whatever the program does.
        first, last = reference[steps[0]]["loss"], reference[steps[-1]]["loss"]
        self.has_moved = len(steps) == 1 or first != last

    @property
    def passed(self) -> bool:
        return self.first_apart is None and self.has_moved

    def __str__(self) -> str:
        text = f"largest relative difference {self.largest:.1e} at step {self.largest_at} of {self.steps} compared"
        if self.first_apart is not None:
            text += f"; more than {self.bound:.0e} apart first at step {self.first_apart}"
        if self.first_noted is not None:
            text += f"; more than {NOTED:.0e} apart first at step {self.first_noted}"
        return text if self.has_moved else text + "; the reference's losses do not change"


def CompareLosses(reference: Steps, run: Steps, steps: Iterable[int], bound: float) -> Comparison:
    return Comparison(reference, run, list(steps), bound)


def MemoryDeviation(measured: float, predicted: float, bound: float = 0.10) -> tuple[float, bool]:
    """(measured / predicted - 1, whether that is within bound)"""
    if predicted <= 0 or measured <= 0:
        raise Failed(f"measured {measured} and predicted {predicted} bytes can not be compared")
    deviation = measured / predicted - 1
    return deviation, abs(deviation) <= bound


def TokensPerSecond(steps: Steps, warmup: int) -> float:
    """Median over the steps after the first `warmup`."""
    rates: list[float] = [steps[step]["tokens_per_second"] for step in sorted(steps)[warmup:]]
    if not rates:
        raise Failed(f"{len(steps)} steps, of which {warmup} are not timed")
    return statistics.median(rates)


def FlopsPerToken(info: dict[str, Any], layers: int, hidden: int, seq_length: int) -> float:
    """Model arithmetic of one trained token.

    6 for each weight of a matrix that the token meets; the embedding is a look-up and has none. And 6 L s D for attention:
    its two products over s/2 positions on average, forward and twice backward.
    """
    parameters: dict[str, int] = info["parameters"]
    matrices = parameters["active"] - parameters["embedding"] - parameters["norms"]
    return float(6 * (matrices + layers * seq_length * hidden))


# Dense bf16 rate of NVIDIA's data sheets (without sparsity), TFLOP/s, by a part of the device's name.
DENSE_BF16_TFLOPS = {"H200": 989, "H100": 989, "GH200": 989, "A100": 312, "B200": 2250}


def DensePeak(device: str) -> int | None:
    return next((rate for name, rate in DENSE_BF16_TFLOPS.items() if name in device), None)


def Bytes(count: float | None) -> str:
    """For people."""
    if count is None:
        return "not known"
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def Table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(str(cell) for cell in row) + " |" for row in [head, *rows]]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])
