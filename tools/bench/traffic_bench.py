#!/usr/bin/env python3
"""What recording costs a step: runs with traffic.record OFF, SUMMARY and FULL in turn, as often as asked, with equal
losses. A run counts with the fastest tenth of its steps and with the processor time of all its ranks; others' work on the
machine disturbs the latter less. Prints for each mode the median of its runs and the change against OFF of the same round:
median and the interval that holds the true median in 95 of 100 cases (order statistics). Two runs of the same mode differ by
some percent, so each mode is also measured within one run: SUMMARY against no recording at all, and FULL against SUMMARY, in
turn for ten steps each. build/tools/bench/recorder_bench has the nanoseconds of an exchange.

  tools/bench/traffic_bench.py [--ranks N] [--rounds N] [--steps N] [--mpi] [field.path=value ...]
"""
import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MODES = ["OFF", "SUMMARY", "FULL"]
SETTINGS = """model { layers: 4 hidden: 96 heads: 4 kv_heads: 2 seq_length: 64 vocab: 256 }
moe { experts: 16 width: 192 top_k: 2 }
train { global_batch: 16 micro_batch: 2 eval_every: 0 save_every: 0 save_minutes: 0 }
data { train: "book.txt" split: "90,10,0" }
"""


BLOCK = 10  # steps of one run with FULL, then as many without


def Train(folder: str, mode: str, options: argparse.Namespace, every: int, recorded: int, steps: int,
          in_turn: int = 0) -> list[dict[str, Any]]:
    """The metrics of a run of so many steps; of each `every` of them so many are recorded singly. Of `in_turn` steps the first
    half is not recorded at all."""
    run_dir = os.path.join(folder, mode)
    command = [os.path.join(ROOT, "build", "unipool"), "train", "bench.txtpb", f"run_dir={run_dir}", "--anew",
               f"train.steps={steps}", f"parallel.ranks={options.ranks}", f"traffic.record={mode}", f"traffic.every={every}",
               f"traffic.first_step={every - recorded}", f"traffic.num_steps={recorded}", "traffic.max_megabytes=100000",
               *options.overrides]
    if options.mpi:
        command = ["mpirun", "-np", str(options.ranks), *command]
    environment = dict(os.environ, UNIPOOL_TEST_RECORD_IN_TURN=str(in_turn))
    outcome = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if outcome.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {outcome.returncode}\n{outcome.stdout}{outcome.stderr}")
    with open(os.path.join(run_dir, "metrics.jsonl")) as file:
        return [json.loads(line) for line in file]


def Run(folder: str, mode: str, options: argparse.Namespace) -> tuple[float, float, list[float]]:
    """Seconds of a step at the border of the fastest tenth, without the first three; processor seconds; all losses."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = Train(folder, mode, options, options.steps, options.steps, options.steps)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = sorted(line["step_seconds"] for line in lines[3:])
    processor = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return seconds[len(seconds) // 10], processor, [line["loss"] for line in lines]


def Within(folder: str, mode: str, options: argparse.Namespace) -> list[float]:
    """What a mode adds to a step in percent, from each block of steps with it and the blocks before and behind it."""
    steps = 2 * BLOCK * options.blocks
    lines = (Train(folder, mode, options, 2 * BLOCK, BLOCK, steps) if mode == "FULL" else
             Train(folder, mode, options, steps, 0, steps, in_turn=2 * BLOCK))
    seconds = [line["step_seconds"] for line in lines]
    blocks = [statistics.median(seconds[first:first + BLOCK]) for first in range(0, len(seconds), BLOCK)]
    with_it = range(3, len(blocks) - 1, 2)  # the first ones warm up
    return [100 * (2 * blocks[i] / (blocks[i - 1] + blocks[i + 1]) - 1) for i in with_it]


def Interval(values: list[float]) -> tuple[float, float]:
    """Of the median, 95 %: by the binomial distribution of how many values lie below it."""
    values, n = sorted(values), len(values)
    tail, k = 0.0, 0
    while k < n // 2 and tail + math.comb(n, k) / 2**n <= 0.025:
        tail += math.comb(n, k) / 2**n
        k += 1
    k = max(k - 1, 0)
    return values[k], values[n - 1 - k]


def Main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--blocks", type=int, default=150, help="of ten steps with FULL, in one run")
    parser.add_argument("--mpi", action="store_true")
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    steps: dict[str, list[float]] = {mode: [] for mode in MODES}
    processor: dict[str, list[float]] = {mode: [] for mode in MODES}
    with tempfile.TemporaryDirectory(prefix="unipool-traffic-") as folder:
        with open(os.path.join(folder, "bench.txtpb"), "w") as file:
            file.write(SETTINGS)
        with open(os.path.join(folder, "book.txt"), "w") as file:
            file.write("the pool of experts is shared by all layers and every token finds one\n" * 3000)
        for number in range(options.rounds):
            losses = {}
            for mode in MODES[number % 3:] + MODES[:number % 3]:
                step, cost, losses[mode] = Run(folder, mode, options)
                steps[mode].append(step)
                processor[mode].append(cost)
            if not losses["OFF"] == losses["SUMMARY"] == losses["FULL"]:
                sys.exit("losses differ between the modes")
        within = {"SUMMARY, against none": Within(folder, "SUMMARY", options), "FULL, against SUMMARY": Within(folder, "FULL", options)}
    print(f"{options.ranks} ranks, {'MPI' if options.mpi else 'threads'}, {options.rounds} rounds; losses are the same bit for bit")
    for what, seconds in [("step", steps), ("processor time of the run", processor)]:
        print(what)
        for mode in MODES:
            change = [100 * (a / b - 1) for a, b in zip(seconds[mode], seconds["OFF"])]
            low, high = Interval(change)
            print(f"{mode:8} {1e3 * statistics.median(seconds[mode]):9.2f} ms   {statistics.median(change):+6.2f} %"
                  f"   ({low:+.2f} .. {high:+.2f} %)")
    print("step, within one run")
    for what, change in within.items():
        low, high = Interval(change)
        print(f"{what:23}   {statistics.median(change):+6.2f} %   ({low:+.2f} .. {high:+.2f} %)")


if __name__ == "__main__":
    Main()
