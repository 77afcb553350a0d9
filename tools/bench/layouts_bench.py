#!/usr/bin/env python3
"""Does every layout of the ranks train like one rank? Trains small models for 20 steps in each layout, twice, as threads and
under mpirun, and prints the largest relative difference of a step's loss and gradient norm from one rank's, and whether the two
runs agree bit for bit. Ends with exit code 1 if a loss is off by more than 1e-5 or two runs differ.

Usage: tools/bench/layouts_bench.py [--steps=N]      needs build/unipool and mpirun"""
import json
import os
import random
import subprocess
import sys
import tempfile

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
# Stages, data ranks, pool replicas, experts, layers.
LAYOUTS = [(1, 1, 1, "POOL", 8), (1, 4, 1, "POOL", 8), (2, 1, 1, "POOL", 8), (2, 2, 1, "POOL", 8), (4, 1, 1, "POOL", 8),
           (4, 2, 1, "POOL", 8), (2, 2, 2, "POOL", 8), (2, 2, 1, "PER_STAGE", 8), (1, 1, 1, "POOL", 7), (3, 1, 1, "POOL", 7)]


def write_text(path):
    words = ["".join(random.Random(i).choices("abcdefghijklmnopqrstuvwxyz", k=2 + i % 7)) for i in range(400)]
    choose = random.Random(7)
    with open(path, "w") as file:
        for _ in range(3000):
            file.write(" ".join(choose.choices(words, weights=range(400, 0, -1), k=12)) + ".\n")


def train(folder, settings, layout, launcher):
    stages, data, replicas, experts, _ = layout
    ranks = stages * data * replicas
    run_dir = os.path.join(folder, "run")
    command = [BINARY, "train", settings, f"run_dir={run_dir}", f"parallel.ranks={ranks}", f"parallel.stages={stages}",
               f"parallel.pool_replicas={replicas}", f"parallel.experts={experts}"]
    if launcher == "mpirun":
        command = ["mpirun", "--bind-to", "none", "-np", str(ranks), *command]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1"}
    if os.geteuid() == 0:
        environment.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {result.returncode}\n{result.stdout}{result.stderr}")
    with open(os.path.join(run_dir, "metrics.jsonl")) as file:
        lines = [json.loads(line) for line in file]
    subprocess.run(["rm", "-r", run_dir], check=True)
    return [(line["loss"], line["grad_norm"]) for line in lines if "loss" in line]


def difference(steps, expected, which):
    return max(abs(a[which] - b[which]) / abs(b[which]) for a, b in zip(steps, expected, strict=True))


def main():
    steps = 20
    for argument in sys.argv[1:]:
        if not argument.startswith("--steps="):
            sys.exit(f"layouts_bench.py: what is \"{argument}\"? The one option is --steps=N")
        steps = int(argument[len("--steps="):])
    print(f"Losses of {steps} steps against one rank: largest relative difference; two runs of each layout")
    print(f"{'model':12} {'L':>2}  {'(S, D, R)':10} {'experts':10} {'ranks as':8} {'loss':>9} {'grad norm':>9}  twice")
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        write_text(os.path.join(folder, "text.txt"))
        for kind, moe in KINDS.items():
            expected = {}
            for layout in LAYOUTS:
                stages, data, replicas, experts, layers = layout
                settings = os.path.join(folder, "settings.txtpb")
                with open(settings, "w") as file:
                    moe_text = moe.format(layers=layers, two_per_layer=2 * layers)
                    file.write(SETTINGS.format(layers=layers, moe=moe_text, steps=steps))
                for launcher in ("threads", "mpirun"):
                    first = train(folder, settings, layout, launcher)
                    same = train(folder, settings, layout, launcher) == first
                    assert len(first) == steps, first
                    one_rank = expected.setdefault(layers, first)
                    loss, norm = difference(first, one_rank, 0), difference(first, one_rank, 1)
                    failed = loss > MOST_DIFFERENCE or not same
                    failures += failed
                    print(f"{kind:12} {layers:2}  {f'({stages}, {data}, {replicas})':10} {experts:10} {launcher:8} {loss:9.1e} "
                          f"{norm:9.1e}  {'bit-identical' if same else 'DIFFERENT'}{'  FAILED' if failed else ''}", flush=True)
            if expected[8][0][0] <= expected[8][-1][0]:
                sys.exit(f"{kind}: nothing was learned, {expected[8]}")
    print(f"{failures} of {2 * len(KINDS) * len(LAYOUTS)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
