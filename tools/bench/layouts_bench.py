#!/usr/bin/env python3
"""Does every layout of the ranks train like one rank? Trains small models for 20 steps in each layout, twice, as threads and
under mpirun, and prints the largest relative difference of a step's loss and gradient norm from one rank's, and whether the two
runs agree bit for bit. Ends with exit code 1 if a loss is off by more than 1e-5 or two runs differ. Needs build/unipool and
mpirun.
"""
from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../gpu"))
from mpi_environment import MPI_ENVIRONMENT  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY = os.path.join(ROOT, "build", "unipool")
MOST_DIFFERENCE = 1e-5

SETTINGS = """model {{ layers: {layers} hidden: 32 heads: 4 kv_heads: 2 seq_length: 32 vocab: 256 init_std: 0.05 }}
moe {{ {moe} width: 48 }}
train {{ steps: {steps} global_batch: 32 micro_batch: 2 lr: 1e-3 warmup_fraction: 0 eval_every: 0 save_every: 0 }}
data {{ train: "text.txt" }}
"""
KINDS = {
    "UniPool": "experts: 13 router_constant: 2 balance_coeff: 1e-3",
    "vanilla MoE": "sharing: PRIVATE experts: {two_per_layer} top_k: 2 router: SOFTMAX balance: LAYER_LOSS balance_coeff: 1e-3",
    "dense": "sharing: DENSE experts: {layers} balance: NONE",
}
Loss = tuple[float, float]  # loss and gradient norm of a step


class Layout(NamedTuple):
    stages: int
    data: int      # ranks that share a stage of a replica
    replicas: int  # of the pool
    experts: str = "POOL"
    layers: int = 8

    @property
    def ranks(self) -> int:
        return self.stages * self.data * self.replicas


LAYOUTS = [Layout(1, 1, 1), Layout(1, 4, 1), Layout(2, 1, 1), Layout(2, 2, 1), Layout(4, 1, 1), Layout(4, 2, 1),
           Layout(2, 2, 2), Layout(2, 2, 1, experts="PER_STAGE"), Layout(1, 1, 1, layers=7), Layout(3, 1, 1, layers=7)]


def write_text(path: str) -> None:
    words = ["".join(random.Random(i).choices("abcdefghijklmnopqrstuvwxyz", k=2 + i % 7)) for i in range(400)]
    choose = random.Random(7)
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(3000):
            file.write(" ".join(choose.choices(words, weights=range(400, 0, -1), k=12)) + ".\n")


def train(folder: str, settings: str, layout: Layout, launcher: str) -> list[Loss]:
    """Every step of a run. launcher: threads or mpirun."""
    run_dir = os.path.join(folder, "run")
    command = [BINARY, "train", settings, f"run_dir={run_dir}", f"parallel.ranks={layout.ranks}",
               f"parallel.stages={layout.stages}",
               f"parallel.pool_replicas={layout.replicas}", f"parallel.experts={layout.experts}"]
    if launcher == "mpirun":
        command = ["mpirun", "--bind-to", "none", "-np", str(layout.ranks), *command]
    environment = {**os.environ, **MPI_ENVIRONMENT, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {result.returncode}\n{result.stdout}{result.stderr}")
    with open(os.path.join(run_dir, "metrics.jsonl"), encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    shutil.rmtree(run_dir)
    return [(line["loss"], line["grad_norm"]) for line in lines if "loss" in line]


def difference(steps: list[Loss], expected: list[Loss], which: int) -> float:
    return max(abs(a[which] - b[which]) / abs(b[which]) for a, b in zip(steps, expected, strict=True))


def compare(folder: str, kind: str, layout: Layout, steps: int, one_rank: dict[int, list[Loss]]) -> int:
    """Trains a kind of model in a layout, both ways to start ranks; how many of them failed. The first layout of a number of
    layers is one rank, whose losses are kept."""
    settings, layers, failures = os.path.join(folder, "settings.txtpb"), layout.layers, 0
    with open(settings, "w", encoding="utf-8") as file:
        moe = KINDS[kind].format(layers=layers, two_per_layer=2 * layers)
        file.write(SETTINGS.format(layers=layers, moe=moe, steps=steps))
    for launcher in ("threads", "mpirun"):
        first = train(folder, settings, layout, launcher)
        same = train(folder, settings, layout, launcher) == first
        assert len(first) == steps, first
        expected = one_rank.setdefault(layers, first)
        loss, norm = difference(first, expected, 0), difference(first, expected, 1)
        failed = loss > MOST_DIFFERENCE or not same
        failures += failed
        shape = f"({layout.stages}, {layout.data}, {layout.replicas})"
        print(f"{kind:12} {layers:2}  {shape:10} {layout.experts:10} {launcher:8} {loss:9.1e} {norm:9.1e}  "
              f"{'bit-identical' if same else 'DIFFERENT'}{'  FAILED' if failed else ''}", flush=True)
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="of each run (20)")
    steps = parser.parse_args().steps
    print(f"Losses of {steps} steps against one rank: largest relative difference; two runs of each layout")
    print(f"{'model':12} {'L':>2}  {'(S, D, R)':10} {'experts':10} {'ranks as':8} {'loss':>9} {'grad norm':>9}  twice")
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        write_text(os.path.join(folder, "text.txt"))
        for kind in KINDS:
            one_rank: dict[int, list[Loss]] = {}
            failures += sum(compare(folder, kind, layout, steps, one_rank) for layout in LAYOUTS)
            if one_rank[8][0][0] <= one_rank[8][-1][0]:
                sys.exit(f"{kind}: nothing was learned, {one_rank[8]}")
    print(f"{failures} of {2 * len(KINDS) * len(LAYOUTS)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
