"""Check of training on a GPU: the peak of memory is what `unipool info` predicts."""
from __future__ import annotations

from training_context import GPU_BF16, GPU_FP32, Outcome, Training
from training_judgement import Bytes, MemoryDeviation, Table
from training_watch import GpuMemory


def CheckMemory(training: Training) -> Outcome:
    rows, passed = [], True
    for name, settings in (("demo, fp32", GPU_FP32), ("demo, bf16", GPU_BF16)):
        predicted = training.Info(*training.demo, *settings)["ranks"][0]["memory_bytes"]["total"]
        with GpuMemory() as device:
            run = training.Short(f"memory of {name}", *settings)
        measured = run[max(run)]["peak_memory_bytes"]
        deviation, within = MemoryDeviation(measured, predicted)
        passed = passed and within
        rows.append([name, Bytes(measured), Bytes(predicted), f"{100 * deviation:+.1f} %",
                     "passed" if within else "FAILED", Bytes(device.bytes)])
    head = ["run", "peak", "info's prediction", "deviation", "within 10 %", "device, driver included"]
    return Outcome(passed, Table(head, rows))
