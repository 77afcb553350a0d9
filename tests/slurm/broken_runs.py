"""Submitted runs to which happens what nobody planned: ranks die or hang, launchers lie, disks are full, nodes are wanted by others."""
import os
import re
import signal

import slurm_run
from slurm_run import Expand, ShortWatchdog, SlurmTest, WriteText


class BrokenRunTest(SlurmTest):
    def test_a_killed_rank_is_a_failure_with_a_limit(self) -> None:
        self.Hold("a", 12)
        self.Submit("a", "train.save_every=5")
        for start in range(3):  # as many as --max_failures has by itself
            self.WaitForHeld("a", start)
            os.remove(self.Path("a", "held"))
            os.kill(self.RankPid(self.Nodes("a")[1], "a"), signal.SIGKILL)
            seconds = self.WaitFor(lambda s=start: len(self.Ledger("a", "end")) > s, "end after a kill", 30)
            self.assertLess(seconds, 10)
        self.LeavesTheQueue("a")
        ends = self.Ledger("a", "end")
        self.assertEqual([end["action"] for end in ends], ["requeue", "requeue", "give_up"])
        self.assertEqual([end["restart"] for end in ends], [0, 1, 2])
        self.assertEqual([start["step"] for start in self.Ledger("a", "start")], [0, 10, 20])
        self.assertTrue(all(end["failed"] and end["steps"] in (10, 11, 12) for end in ends), ends)
        self.assertIn("failure 3 in a row, and --max_failures is 3", self.OnNode(slurm_run.BINARY, "status", "a").stdout)
        logs = os.listdir(self.Path("a", "logs"))
        self.assertEqual(len(logs), 1)
        for start in range(3):
            self.assertIn(f"restart {start},", self.Read("a", "logs", logs[0]))

    def test_wrong_data_is_not_tried_again(self) -> None:
        job = self.Submit("a", "--sbatch=--hold")
        os.rename(self.Path("book.txt"), self.Path("gone.txt"))
        self.OnNode("scontrol", "release", job)
        self.WaitForEnd("a")
        self.assertEqual(self.Ends("a"), [(2, "give_up")])
        self.assertIn("book.txt", self.OnNode(slurm_run.BINARY, "status", "a").stdout)

    def Stick(self, run_dir: str, start: int = 0) -> str:
        """Stops a rank on the second node of a run that is paced, for good. Returns the node's name."""
        self.WaitFor(lambda: len(self.Ledger(run_dir, "start")) > start
                     and self.State(run_dir).get("job_id") == self.Ledger(run_dir, "start")[start]["job"]
                     and self.State(run_dir)["saved_step"] >= 10 * (start + 1), "save after which to act")
        node = self.Nodes(run_dir, start)[-1]
        os.kill(self.RankPid(node, run_dir), signal.SIGSTOP)
        self.Pace(run_dir, 0)
        return f"n{node}"

    def test_a_stuck_rank_is_named_and_its_node_left_out(self) -> None:
        settings = ["train.save_every=10", f"parallel.watchdog_seconds={ShortWatchdog()}"]
        stopped = {}
        for launcher in ("srun", "mpirun"):
            self.Pace(launcher, 300000)
            self.Submit(launcher, *settings, f"--launcher={launcher}")
            stopped[launcher] = self.Stick(launcher)
        for launcher, node in stopped.items():
            self.Finishes(launcher)
            self.WaitForEnds(launcher, [(3, "requeue"), (0, "done")])
            self.assertEqual(self.Ledger(launcher, "end")[0]["excluded"], [node])
            self.assertNotIn(int(node[1:]), self.Nodes(launcher))
            self.IsAsWhole(launcher, *settings)

    def test_a_chain_leaves_out_nodes_too_as_many_as_it_may(self) -> None:
        settings = ["train.save_every=10", f"parallel.watchdog_seconds={ShortWatchdog()}"]
        self.Pace("a", 300000)
        self.Submit("a", *settings, "--chain=dependency", "--links=4", "--max_nodes_excluded=1", "--exclude=n3")
        first = self.Stick("a")
        self.Pace("a", 300000)
        jobs = self.Ledger("a", "submitted")[0]["jobs"]
        self.WaitFor(lambda: self.State("a").get("job_id") == jobs[1], "second link")
        for job in jobs[1:]:
            excluded = re.findall(r"ExcNodeList=(\S+)", self.OnNode("scontrol", "show", "job", job).stdout)
            self.assertEqual([sorted(Expand(text)) for text in excluded], [sorted([int(first[1:]), 3])])
        self.Stick("a", 1)
        self.assertNotIn(int(first[1:]), self.Nodes("a"))
        self.Finishes("a")
        self.LeavesTheQueue("a")
        self.assertEqual(self.Ends("a"), [(3, "requeue"), (3, "requeue"), (0, "done")])
        self.assertEqual([end["excluded"] for end in self.Ledger("a", "end")], [[first], [], []])
        self.IsAsWhole("a", *settings)

    def test_a_launcher_that_lies(self) -> None:
        for code in (0, 1, 143):
            self.Write("setup.sh", f"srun() {{ command srun \"$@\"; return {code}; }}\n")
            self.Hold(f"r{code}", 20)
            job = self.Submit(f"r{code}", f"--setup={self.Path('setup.sh')}", "--nodes=1")
            self.WaitForHeld(f"r{code}")
            self.OnNode("scancel", "--signal=USR2", f"{job}.0")
            self.Release(f"r{code}")
        for code in (0, 1, 143):
            self.Finishes(f"r{code}")
            self.WaitForEnd(f"r{code}")
            self.assertEqual(self.Ends(f"r{code}"), [(75, "requeue"), (0, "done")])

    def test_a_full_folder_ends_the_run(self) -> None:
        os.symlink(os.path.join(slurm_run.CLUSTER.root, "full"), self.Path("full"))
        self.Hold("full/a", 20)
        job = self.Submit("full/a", "--nodes=1")
        self.WaitForHeld("full/a")
        self.OnNode("bash", "-c", "head -c 100M /dev/zero > full/zeros", code=None)
        self.OnNode("scancel", "--signal=USR1", "--batch", job)
        self.Release("full/a")
        self.WaitFor(lambda: not self.OnNode("squeue", "-h", "-j", job, code=None).stdout, "end of the job", 60, every=0.5)
        self.assertIn("ExitCode=76:0", self.OnNode("scontrol", "show", "job", job).stdout)

    def test_a_job_of_higher_priority_takes_the_nodes(self) -> None:
        self.Hold("a", 20)
        self.Submit("a", "--partition=poor")
        self.WaitForHeld("a")
        self.OnNode("sbatch", "--partition=rich", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap", "sleep 1")
        self.WaitFor(lambda: '"term"' in self.Read("a", "submit", "ledger.jsonl"), "word of the preemption")
        self.Release("a")
        self.Finishes("a")
        self.LeavesTheQueue("a")
        self.assertFalse(any(end["failed"] for end in self.Ledger("a", "end")))
        self.assertEqual(self.State("a")["restart_count"], 1)
        self.IsAsWhole("a")

    def test_requeued_by_an_operator_in_a_save_and_in_a_validation(self) -> None:
        WriteText(self.Path("valid.txt"), 60000)  # takes a second or more
        for run, settings in {"save": ["train.save_every=20"], "valid": ["train.eval_every=20", "data.valid=valid.txt"]}.items():
            self.Preload()
            os.makedirs(self.Path(run))
            if run == "save":
                self.Write("save/hold_save", "step-40.partial")
            job = self.Submit(run, *settings)
            if run == "save":
                self.WaitForHeld(run)
                self.assertTrue(os.path.exists(self.Path("save", "checkpoints", "step-40.partial")))
            else:
                self.WaitFor(lambda: len(self.Metrics("valid")) == 20, "validation")
            self.OnNode("scontrol", "requeue", job)
            if run == "save":
                self.WaitFor(lambda: '"term"' in self.Read("save", "submit", "ledger.jsonl"), "word of the requeue")
                self.Release("save", "hold_save")
            self.Finishes(run)
            self.LeavesTheQueue(run)
            self.assertEqual(len(self.Ledger(run, "start")), 2)
            self.assertFalse(any(end["failed"] for end in self.Ledger(run, "end")))
            self.assertEqual([name for name in os.listdir(self.Path(run, "checkpoints")) if "partial" in name], [])
            self.IsAsWhole(run, *settings)
