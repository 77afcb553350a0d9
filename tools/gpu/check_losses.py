"""Checks of training on a GPU: one rank has the CPU's losses, and checkpoints go from either device to the other."""
from __future__ import annotations

import os
import shutil

from training_context import BF16_BOUND, FP32_BOUND, GPU_BF16, GPU_FP32, Compared, Outcome, Row, Training
from training_judgement import EXACT, Failed, Steps


def CheckStart(training: Training) -> Outcome:
    """The steps that rounding does not take apart, as soon as the CPU has made them beside."""
    gpu = training.Gpu()
    steps = range(1, min(EXACT, training.steps) + 1)
    return Compared([Row("GPU against CPU, fp32, the first steps", training.runs.Await("cpu", len(steps)), gpu, steps, FP32_BOUND)])


def CheckFp32(training: Training) -> Outcome:
    gpu, cpu = training.Gpu(), training.Cpu()
    passed, text = Compared([Row("GPU against CPU, fp32", cpu, gpu, training.AllSteps(), FP32_BOUND)])
    if all(cpu[step]["loss"] == gpu[step]["loss"] for step in training.AllSteps()):
        return Outcome(False, text + "\n\nEvery loss is the CPU's bit for bit: nothing was computed elsewhere.")
    return Outcome(passed, text)


def CheckBf16(training: Training) -> Outcome:
    run = training.Train("gpu-bf16", *training.long, *GPU_BF16)
    return Compared([Row("GPU in bf16 against CPU in fp32", training.Cpu(), run, training.AllSteps(), BF16_BOUND)])


def Continued(training: Training, name: str, origin: str, *settings: str) -> Steps:
    """The second half of a run on another device than the first, from a copy of its checkpoint in the middle."""
    step = training.steps // 2
    source = training.runs.Path(origin, "checkpoints", f"step-{step}")
    target = training.runs.Path(name, "checkpoints", f"step-{step}")
    if not os.path.isdir(source):
        raise Failed(f"{origin} left no checkpoint of step {step}")
    shutil.copytree(source, target)
    run = training.Train(name, f"train.steps={training.steps}", "train.save_every=0", *settings)
    if min(run) != step + 1:
        raise Failed(f"{name} began at step {min(run)}, not after the checkpoint of step {step}")
    return run


def CheckCheckpoints(training: Training) -> Outcome:
    cpu, gpu = training.Cpu(), training.Gpu()
    rest = range(training.steps // 2 + 1, training.steps + 1)
    return Compared([
        Row("saved on the CPU, continued on the GPU; against the CPU alone", cpu,
            Continued(training, "cpu-then-gpu", "cpu", *GPU_FP32), rest, FP32_BOUND),
        Row("saved on the GPU, continued on the CPU; against the GPU alone", gpu,
            Continued(training, "gpu-then-cpu", "gpu-fp32", "device=CPU"), rest, FP32_BOUND)])
