#!/usr/bin/env python3
"""The training step of `tools/dev bench step` beside PyTorch's on this processor, one thread each: FP32 against fp32, and
BF16 (products of BF16, FP32 masters) against bf16 without masters. All programs run at once and take turns step by step, so
that whatever else the machine does meets all alike. PyTorch's is tools/torch/torch_unipool.py, from the same configuration,
on the same samples, compiled where that works (`--compile OFF`: not compiled). Prints medians of processor time (of the
process) and of time as it passes, their ratios, and the least and the largest ratio of a pair.

  tools/bench/torch_bench.py [--pairs N] [--processor N] [--compile LAYER|OFF] [--only FP32|BF16] [--bench FILE]

UNIPOOL_TORCH_PYTHON: a Python that has PyTorch (default: this one). Without it, PyTorch is not measured.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PYTHON = os.environ.get("UNIPOOL_TORCH_PYTHON", sys.executable)
WARMUP = 3  # steps that do not count
TOKENS = 8 * 256  # of a step
CLOCKS = {"processor_seconds": "processor time", "seconds": "time as it passes"}


@dataclass
class Side:
    """One program and the steps that it has taken."""
    name: str
    precision: str
    process: subprocess.Popen[str]
    steps: list[dict[str, float]] = field(default_factory=list)

    def Step(self) -> None:
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            sys.exit(f"torch_bench.py: {self.name} in {self.precision} ended with {self.process.wait()}; what it said is above")
        self.steps.append(json.loads(line))

    def Times(self, clock: str) -> list[float]:
        return [step[clock] for step in self.steps[WARMUP:]]


def Start(command: list[str], processor: int | None) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    if processor is not None:
        os.sched_setaffinity(process.pid, {processor})
    return process


def HasTorch() -> bool:
    # torch.nn, because any folder that is called torch would pass for torch.
    return subprocess.run([PYTHON, "-c", "import torch.nn"], capture_output=True, check=False).returncode == 0


def Sides(options: argparse.Namespace, folder: str, with_torch: bool) -> list[Side]:
    sides = []
    for precision in [options.only] if options.only else ["FP32", "BF16"]:
        sides.append(Side("ours", precision, Start([options.bench, "--turns", precision], options.processor)))
        if with_torch:
            command = [PYTHON, os.path.join(ROOT, "tools/torch/torch_unipool.py"), os.path.join(folder, "step.txtpb"),
                       "--device", "CPU", "--precision", precision, "--masters", "NONE", "--compile", options.compile, "--turns",
                       "--steps", str(WARMUP + options.pairs), "--samples", os.path.join(folder, "samples.i32")]
            sides.append(Side("PyTorch", precision, Start(command, options.processor)))
    return sides


def Report(sides: list[Side]) -> None:
    print(f"{'':16s} {'median ms':>10s} {'least':>8s} {'most':>8s} {'tokens/s':>9s} {'loss':>8s}")
    for clock, text in CLOCKS.items():
        print(text)
        for side in sides:
            times = side.Times(clock)
            print(f"  {side.name:7s} {side.precision:6s} {1e3 * statistics.median(times):10.0f} {1e3 * min(times):8.0f} "
                  f"{1e3 * max(times):8.0f} {TOKENS / statistics.median(times):9.0f} {side.steps[-1]['loss']:8.4f}")
        for precision in dict.fromkeys(side.precision for side in sides):
            pair = [side.Times(clock) for side in sides if side.precision == precision]
            if len(pair) == 2:
                ratios = [theirs / ours for ours, theirs in zip(*pair)]
                print(f"  {precision}: PyTorch takes {statistics.median(pair[1]) / statistics.median(pair[0]):.2f} times as long "
                      f"(ratio of medians; {len(ratios)} pairs from {min(ratios):.2f} to {max(ratios):.2f})")


def Main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--processor", type=int, help="the processor that all run on; default: any")
    parser.add_argument("--compile", choices=["LAYER", "OFF"], default="LAYER")
    parser.add_argument("--only", choices=["FP32", "BF16"])
    parser.add_argument("--bench", default=os.path.join(ROOT, "build/tools/bench/step_bench"), help="step_bench of another build")
    options = parser.parse_args()
    with_torch = HasTorch()
    if not with_torch:
        print(f"PyTorch: not measured, {PYTHON} has none; UNIPOOL_TORCH_PYTHON names a Python that has")
    with tempfile.TemporaryDirectory(prefix="unipool-torch-bench-") as folder:
        subprocess.run([options.bench, "--write", folder, str(WARMUP + options.pairs)], check=True)
        sides = Sides(options, folder, with_torch)
        for turn in range(WARMUP + options.pairs):
            for side in sides if turn % 2 == 0 else reversed(sides):  # there and back
                side.Step()
        for side in sides:
            assert side.process.stdin
            side.process.stdin.close()
            side.process.wait()
    Report(sides)


if __name__ == "__main__":
    Main()
