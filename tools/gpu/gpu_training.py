#!/usr/bin/env python3
"""Proves and measures training on this machine's GPU with the program `unipool` as people use it, and writes its part of
gpu-check's report. Each check has its own limit and outcome; none stops the others. Needs Python 3.9 or later and its own
library alone, and PyTorch in that Python (or in UNIPOOL_TORCH_PYTHON) for the comparison with it.
Exit status: 0 all passed, 1 something failed.

To add a check: a function in the file of its family, check_FAMILY.py, and a line in CHECKS.
"""
from __future__ import annotations

import argparse
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from check_bench import CheckBench  # noqa: E402
from check_layouts import CheckNccl, CheckRanks  # noqa: E402
from check_losses import CheckBf16, CheckCheckpoints, CheckFp32, CheckStart  # noqa: E402
from check_memory import CheckMemory  # noqa: E402
from check_sweep import CheckSweep  # noqa: E402
from check_timeline import CheckTimeline  # noqa: E402
from check_torch import CheckTorchSame  # noqa: E402
from training_context import Outcome, Training  # noqa: E402
from training_judgement import Failed  # noqa: E402
from training_runs import NotFinished, NotRun  # noqa: E402

CHECKS: dict[str, Callable[[Training], Outcome]] = {
    # What tells most comes first: time may be short. What waits for all steps of the CPU comes late.
    "start": CheckStart, "bench": CheckBench, "timeline": CheckTimeline, "sweep": CheckSweep, "memory": CheckMemory,
    "torch_same": CheckTorchSame, "fp32": CheckFp32, "bf16": CheckBf16, "checkpoints": CheckCheckpoints, "ranks": CheckRanks,
    "nccl": CheckNccl,
}
AGAINST_CPU = {"start", "fp32", "bf16", "checkpoints"}
LONG = {"bench", "sweep"}  # those with the limit of the benchmark


def Names(text: str) -> list[str]:
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in CHECKS:
            raise argparse.ArgumentTypeError(f"there is no check {name}; there are {','.join(CHECKS)}")
    return names


def Flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    need = parser.add_argument_group("needed")
    need.add_argument("--program", required=True, metavar="UNIPOOL")
    need.add_argument("--configs", required=True, metavar="DIR")
    need.add_argument("--text", required=True, metavar="FILE", help="to train on")
    need.add_argument("--report", required=True, metavar="FILE", help="is written to its end")
    parser.add_argument("--torch", default="", metavar="FILE", help="torch_unipool.py")
    parser.add_argument("--mpirun", default=shutil.which("mpirun") or "", metavar="FILE", help="default: of the PATH")
    parser.add_argument("--timeline", default="", metavar="FILE", help="libunipool_timeline.so")
    parser.add_argument("--trace", default="", metavar="FILE", help="where the time line's trace goes")
    parser.add_argument("--checks", type=Names, default=list(CHECKS), metavar="NAME,...", help=f"of {' '.join(CHECKS)} (all)")
    parser.add_argument("--limit", type=float, default=300, metavar="SECONDS", help="of each check (300)")
    parser.add_argument("--bench-limit", type=float, default=900, metavar="SECONDS", help="of bench, and of sweep (900)")
    parser.add_argument("--total-limit", type=float, default=0, metavar="SECONDS", help="of all checks together; 0: none (0)")
    parser.add_argument("--steps", type=int, default=200, metavar="N", help="of the comparisons (200)")
    parser.add_argument("--bench-steps", type=int, default=12, metavar="N", help="of the benchmark (12, 4 of them warm-up)")
    parser.add_argument("--demo", default="", metavar='"A=B ..."', help="more settings of configs/demo.txtpb")
    parser.add_argument("--bench", default="", metavar='"A=B ..."', help="more settings of the benchmark's model")
    return parser.parse_args()


def Run(training: Training, name: str, limit: float, left: float) -> tuple[str, str]:
    """(outcome, text for the report) of a check. `left`: seconds until all of them must have ended."""
    if left < 1:
        return "not run, the total limit is used up", ""
    training.is_cut = left < limit
    training.runs.Limit(min(limit, left))
    try:
        passed, text = CHECKS[name](training)
        return "passed" if passed else "FAILED", text
    except Failed as problem:
        return "FAILED", str(problem)
    except NotFinished as problem:
        text = "\n\n".join([f"{problem}.", *training.so_far])
        return f"not finished in {left:.0f} s, all that was left" if training.is_cut else f"FAILED, not finished in {limit:g} s", text
    except NotRun as why:
        return "not run", f"{why}."
    except Exception as error:  # pylint: disable=broad-except  one check's mistake is not the others'
        return "FAILED", f"{type(error).__name__}: {error}"


def main() -> int:
    flags = Flags()
    training, failed, end = Training(flags), [], time.monotonic() + (flags.total_limit or math.inf)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("gpu_training.py: ended from outside"))
    try:
        if AGAINST_CPU & set(flags.checks):
            training.BeginCpu()
        for name in flags.checks:
            print(f"gpu-check: training: {name}", flush=True)
            training.so_far = []
            try:
                outcome, text = Run(training, name, flags.bench_limit if name in LONG else flags.limit, end - time.monotonic())
            except SystemExit as ended:
                training.Tell("\n\n".join([f"### {name}: not finished", f"{ended}.", *training.so_far, ""]))
                raise
            if outcome.startswith("FAILED"):
                failed.append(name)
            text = "\n\n".join(part for part in (text, training.runs.TellStarts()) if part)
            training.Tell(f"### {name}: {outcome}\n\n{text}\n\n")
    finally:
        training.runs.Close()
    print(f"gpu-check: training: {'FAILED: ' + ', '.join(failed) if failed else 'passed'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
