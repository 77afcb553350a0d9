"""Checks of training on a GPU: several ranks that share it, and NCCL, have the losses of one rank."""
from __future__ import annotations

from training_context import BF16_BOUND, FP32_BOUND, GPU_BF16, GPU_FP32, Compared, Outcome, Row, Training
from training_judgement import Failed

LAYOUTS = {"2 ranks": (2, ["parallel.ranks=2"]), "4 ranks": (4, ["parallel.ranks=4"]),
           "2 stages": (2, ["parallel.ranks=2", "parallel.stages=2"])}


def CheckRanks(training: Training) -> Outcome:
    one, steps = training.OneRank(), training.ShortSteps()
    rows, problems = list[Row](), list[str]()
    has_mpi = bool(training.flags.mpirun)

    def Compare(what: str, name: str, bound: float, *settings: str, mpi: int = 0) -> None:
        try:
            rows.append(Row(what, one, training.Short(name, *settings, mpi=mpi), steps, bound))
        except Failed as problem:
            problems.append(f"{what}: FAILED, {problem}")

    for layout, (ranks, settings) in LAYOUTS.items():
        for transport in ("THREADS", "MPI") if has_mpi else ("THREADS",):
            Compare(f"{layout} on one GPU, {transport}, against one rank", f"{layout}-{transport}".replace(" ", "-"),
                    FP32_BOUND, *GPU_FP32, *settings, f"parallel.transport={transport}",
                    mpi=ranks if transport == "MPI" else 0)
    Compare("2 ranks on one GPU, THREADS, bf16, against one rank in fp32", "2-ranks-bf16", BF16_BOUND, *GPU_BF16,
            "parallel.ranks=2", "parallel.transport=THREADS")
    passed, text = Compared(rows)
    notes = [] if has_mpi else ["Under mpirun: not run, it is not here."]
    return Outcome(passed and not problems, "\n\n".join([text, *problems, *notes]))


def CheckNccl(training: Training) -> Outcome:
    run = training.Short("nccl", *GPU_FP32, "parallel.transport=NCCL")
    return Compared([Row("NCCL at one rank against one rank", training.OneRank(), run, training.ShortSteps(), FP32_BOUND)])
