"""Submitted runs that take minutes, even on an idle machine, since Slurm does: limits are whole minutes, a requeued job waits, and a
dead node is noticed late."""
import os
import random
import time

import slurm_run
from slurm_run import SLOW_NODE, Busy, SlurmTest


class PreemptionTest(SlurmTest):
    def Preempt(self, times: int, *settings: str) -> None:
        """At random moments: in start-up, steps, saves, validation, moves of experts."""
        seed = int(os.environ.get("UNIPOOL_TEST_SEED", str(time.time_ns() % 10**6)))
        generator = random.Random(seed)
        settings = ("train.save_every=25", "train.eval_every=10", "train.eval_batches=1", "parallel.replace_every=10",
                    f"train.steps={75 * times}", *settings)
        self.Pace("a", 50000)  # no machine is so fast that the run is over before
        job = self.Submit("a", *settings, "--max_restarts=100")
        for i in range(times):
            self.WaitFor(lambda n=i: len(self.Ledger("a", "start")) > n, f"start {i} (seed {seed})", 60)
            time.sleep(generator.uniform(0, 3))
            self.assertNotEqual(self.State("a").get("status"), "finished", f"over after {i} preemptions")
            self.OnNode("scontrol", "requeue", job)
        self.Pace("a", 0)
        self.Finishes("a", 200)
        self.LeavesTheQueue("a")
        self.assertEqual(len(self.Ledger("a", "start")), times + 1)
        self.assertFalse(any(end["failed"] for end in self.Ledger("a", "end")))
        self.IsAsWhole("a", *settings)


class FewPreemptionsTest(PreemptionTest):
    def test_three_times_at_random_moments(self) -> None:
        self.Preempt(3)


class LongRunTest(PreemptionTest):
    def test_twenty_times_at_random_moments(self) -> None:
        self.Preempt(20)

    def test_the_limit_of_a_minute_is_survived(self) -> None:
        """Each start stops by itself. The run is too long for three."""
        minutes = 1 if Busy() < 5 else 2
        settings = [f"train.steps={620 * minutes}", "parallel.stages=1"]
        self.Pace("a", 250000)
        self.Submit("a", *settings, "--nodes=1", "--ranks_per_node=1", f"--time={minutes}", "--lead=15")
        self.Finishes("a", 600 * minutes)
        self.LeavesTheQueue("a")
        ends = self.Ends("a")
        self.assertEqual(ends, (len(ends) - 1) * [(75, "requeue")] + [(0, "done")])
        self.assertGreaterEqual(len(ends), 4)
        self.assertEqual(self.Metrics("a", "metrics.replaced.jsonl"), [])
        self.IsAsWhole("a", *settings, ranks=1)
        self.Report(", ".join(sorted({end["reason"][:40] for end in self.Ledger("a", "end")})))

    def test_a_node_that_dies_in_mid_save(self) -> None:
        settings = ["train.save_every=20"]
        self.Preload()
        os.makedirs(self.Path("a"))
        self.Write("a/hold_save", "step-40.partial")
        self.Submit("a", *settings, "--partition=mortal")
        self.WaitForHeld("a")
        partial = self.Path("a", "checkpoints", "step-40.partial")
        self.assertTrue(os.path.exists(partial))
        slurm_run.CLUSTER.Kill(self.Nodes("a")[1])
        self.Release("a", "hold_save")
        self.Finishes("a", 300)
        self.LeavesTheQueue("a")
        self.assertEqual(self.Ledger("a", "start")[1]["step"], 20)
        self.assertFalse(os.path.exists(partial))
        self.assertEqual([end["action"] for end in self.Ledger("a", "end") if end["restart"] == 1], ["done"])
        self.IsAsWhole("a", *settings)

    def test_a_slow_node_is_found_before_the_run_and_left_out(self) -> None:
        slurm_run.CLUSTER.SlowWire(SLOW_NODE, "30mbit")
        self.Submit("a", "--partition=wide", "--nodes=3", "--ranks_per_node=1", "parallel.stages=1", "train.global_batch=6",
                    "--node_check")
        self.Finishes("a", 200)
        first = self.Ledger("a", "end")[0]
        self.assertEqual((first["exit_code"], first["action"], first["excluded"]), (3, "requeue", [f"n{SLOW_NODE}"]))
        self.assertNotIn(SLOW_NODE, self.Nodes("a"))
        self.assertIn(f"left out    n{SLOW_NODE}", self.OnNode(slurm_run.BINARY, "status", "a").stdout)
