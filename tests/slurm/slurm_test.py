#!/usr/bin/env python3
"""Runs that are submitted to a real Slurm of this machine (slurm_cluster.py): they are stopped, preempted, killed, stuck, full,
and each ends as it should, bit for bit as a run without a break. Tests run several at a time.

Usage: slurm_test.py short|long|all UNIPOOL_BINARY WORK_FOLDER [NAME ...]     exit code 77: Slurm cannot run here, says why
"""
import concurrent.futures
import os
import shutil
import signal
import subprocess
import sys
import time
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import slurm_run  # noqa: E402
from broken_runs import BrokenRunTest  # noqa: E402
from long_runs import FewPreemptionsTest, LongRunTest  # noqa: E402
from ordinary_runs import OrdinaryRunTest  # noqa: E402
from slurm_cluster import Cluster, WhyNot  # noqa: E402
from slurm_run import SLOW_NODE  # noqa: E402
from submit_refusals import RefusalTest  # noqa: E402

# Nodes 0-3 are for most tests; 4-6 for a dead node, 7-10 for a slow one, 11-12 for preemption,
# 13-14 for a test that counts what goes over their links.
PARTITIONS = {"main": (0, 3, "Default=YES"), "mortal": (4, 6, ""), "wide": (7, 10, ""), "poor": (11, 12, "PriorityTier=1"),
              "rich": (11, 12, "PriorityTier=9"), "counted": (13, 14, "")}
GROUPS = {"short": [FewPreemptionsTest, BrokenRunTest, OrdinaryRunTest, RefusalTest], "long": [LongRunTest]}


def RunOne(test: unittest.TestCase) -> bool:
    begin, result = time.monotonic(), unittest.TestResult()
    test.run(result)
    name = test.id().split(".")[-1]
    word = "ok" if result.wasSuccessful() else "FAILED"
    text = "".join(f"\n{text}" for _, text in result.failures + result.errors)
    print(f"{word:7}{time.monotonic() - begin:6.1f} s  {name}  {slurm_run.REPORT.get(name, '')}{text}", flush=True)
    return result.wasSuccessful()


def Tests(group: str, names: list[str]) -> list[unittest.TestCase]:
    groups = list(GROUPS) if group == "all" else [group]
    cases = [case for name in reversed(groups) for case in GROUPS[name]]
    tests = [test for case in cases for test in unittest.defaultTestLoader.loadTestsFromTestCase(case)]
    return [test for test in tests if not names or any(name in test.id() for name in names)]


def RunAll(tests: list[unittest.TestCase]) -> int:
    # More at a time would be slower for each, where all of them compute.
    with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("UNIPOOL_SLURM_AT_ONCE", str(2 * slurm_run.CORES)))) as pool:
        return list(pool.map(RunOne, tests)).count(False)


def Main(group: str, binary: str, root: str, names: list[str]) -> int:
    why = WhyNot()
    if why:
        print(f"skipped: {why}")
        return 77
    slurm_run.BINARY, root = os.path.abspath(binary), os.path.abspath(root)
    shutil.rmtree(root, ignore_errors=True)
    os.makedirs(f"{root}/full")
    slurm_run.HOLD = f"{root}/hold.so"
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "hold.c")
    subprocess.run(["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", slurm_run.HOLD, source, "-ldl"], check=True)
    slurm_run.CLUSTER = Cluster(root, PARTITIONS, weights={SLOW_NODE: 1})
    tests = Tests(group, names)

    def End() -> None:
        slurm_run.CLUSTER.Stop()
        subprocess.run(["umount", "-l", f"{root}/full"], check=False)

    def OnTerm(*_: object) -> None:  # of a limit of time; tests that wait do not hear it
        End()
        os._exit(143)
    signal.signal(signal.SIGTERM, OnTerm)
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", f"{root}/full"], check=True)  # before the nodes: they see it
        slurm_run.CLUSTER.Start()
        failed = RunAll(tests)
    finally:
        End()
    print(f"{len(tests)} tests, {failed} failed")
    return 1 if failed or not tests else 0


if __name__ == "__main__":
    if len(sys.argv) < 4 or sys.argv[1] not in [*GROUPS, "all"]:
        sys.exit(__doc__)
    sys.exit(Main(*sys.argv[1:4], sys.argv[4:]))
