#!/usr/bin/env python3
"""A rank that dies or stops in the midst of training ends the whole job in time, with a message that names it."""
import os
import signal
import subprocess
import time
import unittest

import run_harness
from run_harness import IsAlive, Outcome, RanksOf, RunTest, WaitUntil

WATCHDOG_SECONDS = 3
GRACE_SECONDS = 12  # answers of the others, mpirun's end, a busy machine


class FailuresTest(RunTest):
    def StartLongRun(self, run_dir: str) -> tuple[subprocess.Popen[bytes], dict[int, int]]:
        process = self.Start("train", "small.txtpb", f"run_dir={run_dir}", "train.steps=1000000", "train.save_every=0", "train.eval_every=0",
                             f"parallel.watchdog_seconds={WATCHDOG_SECONDS}", mpi=3)
        path = self.Path(run_dir, "metrics.jsonl")
        WaitUntil(lambda: os.path.exists(path) and os.path.getsize(path) > 2000, "some steps")
        return process, RanksOf(process.pid)

    def Signal(self, number: int, victim: int) -> tuple[Outcome, float]:
        process, ranks = self.StartLongRun(f"victim-{victim}")
        self.assertEqual(sorted(ranks), [0, 1, 2])
        os.kill(ranks[victim], number)
        begin = time.monotonic()
        outcome = self.Finish(process, WATCHDOG_SECONDS + GRACE_SECONDS)
        self.assertNotEqual(outcome.code, 0)
        WaitUntil(lambda: not any(IsAlive(pid) for pid in ranks.values()), "all ranks to end", 5)
        self.assertEqual(outcome.text.count("Check fail"), 0, outcome)
        return outcome, time.monotonic() - begin

    def test_killed_rank_is_named(self) -> None:
        outcome, _ = self.Signal(signal.SIGKILL, 1)
        self.assertRegex(outcome.text, r"(?s)rank 1 .{0,120}?exited\s+on\s+signal\s+9", outcome)

    def test_stopped_rank_is_named(self) -> None:
        for victim in [2, 0]:
            outcome, seconds = self.Signal(signal.SIGSTOP, victim)
            self.assertRegex(outcome.text, rf"stuck: rank \d has waited .* s in '[a-z ]+', step \d+.*no sign of life from rank {victim} \(")
            self.assertEqual(outcome.text.count("stuck: "), 1, outcome)
            self.assertGreaterEqual(seconds, WATCHDOG_SECONDS - 0.5)


if __name__ == "__main__":
    run_harness.Main(__doc__)
