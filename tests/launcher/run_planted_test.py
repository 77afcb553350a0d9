#!/usr/bin/env python3
"""Faults that are planted in real runs: `report` names the rank and the kind first, from sums and from records."""
import os
import re
import signal
import subprocess
import sys
import threading
import time
import unittest

import run_harness
from run_harness import RanksOf, RunTest, WaitUntil

SMALL = ["train.steps=60", "train.global_batch=16", "train.micro_batch=2", "train.eval_every=0", "train.save_every=0",
         "traffic.every=20"]
RECORDS = {"SUMMARY": ["traffic.record=SUMMARY"],
           "FULL": ["traffic.record=FULL", "traffic.first_step=20", "traffic.num_steps=10"]}
FAULTY = 1  # rank


class PlantedTest(RunTest):
    def StartRanks(self, run: str, record: str, *settings: str) -> tuple["subprocess.Popen[bytes]", int]:
        """Two processes that take steps, and the faulty one's id."""
        process = self.Start("train", "small.txtpb", f"run_dir={run}", *SMALL, *RECORDS[record], *settings, mpi=2)
        WaitUntil(lambda: os.path.exists(self.Path(run, "metrics.jsonl")) and self.Metrics(run), "the first step")
        return process, RanksOf(process.pid)[FAULTY]

    def Causes(self, run: str) -> list[str]:
        """The causes of the verdict in a line each, the first one first; their advice with them."""
        text = self.Run("report", run, "--text", f"--html={run}.html").text
        verdict = text[text.index("Verdict: "):].split("\n\n")[0]
        causes = re.split(r"\n +\d\. ", verdict)
        self.assertGreater(len(causes), 1, text)
        return [" ".join(cause.split()) for cause in causes]

    def test_a_rank_that_is_stopped_again_and_again(self) -> None:
        for record in RECORDS:
            process, pid = self.StartRanks(record, record)
            ended = threading.Event()

            def Stop(pid: int = pid, ended: threading.Event = ended) -> None:
                while not ended.is_set():
                    try:
                        os.kill(pid, signal.SIGSTOP)
                        time.sleep(0.04)
                        os.kill(pid, signal.SIGCONT)
                    except ProcessLookupError:
                        return
                    time.sleep(0.02)

            thread = threading.Thread(target=Stop)
            thread.start()
            try:
                self.assertEqual(self.Finish(process).code, 0)
            finally:
                ended.set()
                thread.join()
            causes = self.Causes(record)
            self.assertRegex(causes[1], rf"rank {FAULTY} goes without a core for .* it was stopped", record)
            self.assertNotIn("wire", " ".join(causes), record)

    @unittest.skipIf(len(os.sched_getaffinity(0)) < 2, "one core")
    def test_a_rank_that_shares_its_core(self) -> None:
        first, last = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
        for record in RECORDS:
            process, pid = self.StartRanks(record, record, "train.steps=16", "traffic.every=8", "traffic.first_step=4")
            for rank, own in RanksOf(process.pid).items():
                for task in os.listdir(f"/proc/{own}/task"):
                    os.sched_setaffinity(int(task), {last if rank == FAULTY else first})
            loop = f"import os\nos.sched_setaffinity(0, {{{last}}})\nwhile os.getppid() == {os.getpid()}: pass"
            others = [subprocess.Popen([sys.executable, "-c", loop]) for _ in range(3)]
            try:
                self.assertEqual(self.Finish(process).code, 0)
            finally:
                for other in others:
                    other.kill()
                    other.wait()
            causes = self.Causes(record)
            self.assertRegex(causes[1], rf"rank {FAULTY} goes without a core for .* run on its core", record)
            self.assertNotIn("wire", " ".join(causes), record)

    def test_a_hot_expert(self) -> None:
        """All tokens are alike, so all choose the same experts."""
        self.Write("alike.txt", "a" * 20000)
        self.Write("cluster.txtpb", "ranks_per_node: 0\n")  # wires that take no time
        for record in RECORDS:
            self.Run("train", "small.txtpb", f"run_dir={record}", *SMALL, *RECORDS[record], "train.steps=30", "train.lr=1e-9",
                     "train.min_lr=0", "moe.top_k=1", "model.layers=1", "data.train=alike.txt",
                     "moe.balance=NONE", "moe.experts=8", "moe.width=256", "parallel.ranks=4",
                     "parallel.emulate=cluster.txtpb", "parallel.replace_every=0")
            self.Run("report", record, "--matrix=to.txt", "--operation=dispatch forward")
            with open(self.Path("to.txt"), encoding="utf-8") as file:
                rows = [sum(column) for column in zip(*[[int(word) for word in line.split()] for line in file])]
            hot = rows.index(max(rows))
            self.assertGreater(max(rows), 0.9 * sum(rows), "the experts that are chosen lie on one rank")
            causes = self.Causes(record)
            self.assertIn("skew-dominated", causes[0], record)
            self.assertRegex(causes[1], rf"others wait for rank {hot}: .* receives .* hot experts", record)
            self.assertIn("moe.balance=POOL_LOSS", causes[1], record)


if __name__ == "__main__":
    run_harness.Main(__doc__)
