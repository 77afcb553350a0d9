#!/usr/bin/env python3
"""Runs that are submitted to a real Slurm of this machine (slurm_cluster.py): they are stopped, preempted, killed, stuck, full,
and each ends as it should, bit for bit as a run without a break. Tests run several at a time.

Usage: slurm_test.py UNIPOOL_BINARY WORK_FOLDER [NAME ...]     exit code 77: Slurm cannot run here, says why
"""
import concurrent.futures
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import slurm_run  # noqa: E402
from slurm_cluster import Cluster, WhyNot  # noqa: E402
from slurm_run import ODD, SlurmTest  # noqa: E402
from submit_refusals import RefusalTest  # noqa: E402

# Node: nodes 0-3 for most; 4-6 for a dead node, 7-10 for a slow one, 11-12 for preemption.
PARTITIONS = {"main": (0, 3, "Default=YES"), "mortal": (4, 6, ""), "wide": (7, 10, ""), "poor": (11, 12, "PriorityTier=1"),
              "rich": (11, 12, "PriorityTier=9")}
SLOW_NODE = 7
MANY = ["train.steps=800"]

SLOW_SAVE = r'''
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int fsync(int fd) {
  char link[64], path[512];
  snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, path, sizeof(path) - 1);
  if (size > 0 && (path[size] = 0, strstr(path, "optimizer"))) usleep(700000);
  return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
'''


class SubmitTest(SlurmTest):
    def test_both_launchers_give_the_losses_of_threads(self) -> None:
        for launcher in ("srun", "mpirun"):
            self.Submit(f"{launcher} {ODD}", *MANY, f"--launcher={launcher}")
        for launcher in ("srun", "mpirun"):
            self.Finishes(f"{launcher} {ODD}")
            self.IsAsWhole(f"{launcher} {ODD}", *MANY)
            self.assertEqual(self.Ends(f"{launcher} {ODD}"), [(0, "done")])
        self.assertFalse(os.path.exists(self.Path("oops")))

    def test_the_dry_run_is_what_is_submitted(self) -> None:
        flags = ["--nodes=2", "--ranks_per_node=2", "--time=10", "--lead=60"]
        dry = self.OnNode(slurm_run.BINARY, "submit", "small.txtpb", "run_dir=a", *flags, "--dry_run").stdout
        self.assertFalse(os.path.exists(self.Path("a")))
        self.OnNode(slurm_run.BINARY, "submit", "small.txtpb", "run_dir=a", *flags, "--wait")
        self.assertEqual(self.Read("a", "submit", "001.sbatch"), dry)
        self.assertEqual(self.Status("a")["status"], "finished")

    def test_usr2_of_the_batch_shell_stops_and_requeues_once(self) -> None:
        for launcher in ("srun", "mpirun"):
            job = self.Submit(launcher, *MANY, f"--launcher={launcher}")
            self.WaitForStep(launcher, 30)
            self.OnNode("scancel", "--signal=USR2", "--batch", job)
        for launcher in ("srun", "mpirun"):
            self.Finishes(launcher)
            self.WaitForEnd(launcher)
            self.assertEqual(self.Ends(launcher), [(75, "requeue"), (0, "done")])
            self.assertEqual(self.State(launcher)["restart_count"], 1)
            self.IsAsWhole(launcher, *MANY)
        # A finished run that is started again, by a person or by Slurm, changes nothing.
        before = self.Metrics("srun"), self.State("srun")
        job = self.OnNode("sbatch", "--parsable", "srun/submit/001.sbatch").stdout.strip()
        self.WaitFor(lambda: "COMPLETED" in self.OnNode("scontrol", "show", "job", job).stdout, "end of a needless start", 30)
        self.OnNode("scontrol", "requeue", job)
        self.WaitFor(lambda: "COMPLETED" in self.OnNode("scontrol", "show", "job", job).stdout, "end of a needless requeue", 40)
        self.assertEqual((self.Metrics("srun"), self.State("srun")), before)

    def test_usr1_saves_and_goes_on_and_one_rank_may_stop_all(self) -> None:
        job = self.Submit("a", *MANY)
        self.WaitForStep("a", 20)
        for _ in range(3):
            self.OnNode("scancel", "--signal=USR1", "--batch", job)
        self.WaitFor(lambda: self.State("a")["saved_step"] > 0, "save")
        self.assertEqual(self.Ends("a"), [])
        node = self.Nodes("a")[1]
        os.kill(self.RankPid(node, "a"), signal.SIGUSR2)
        self.Finishes("a")
        self.WaitForEnd("a")
        self.assertEqual(self.Ends("a"), [(75, "requeue"), (0, "done")])
        self.IsAsWhole("a", *MANY)

    def test_the_limit_of_a_minute_is_survived(self) -> None:
        """Each start stops by itself: the run is too long for two."""
        self.Submit("a", "train.steps=1000000", "--time=1", "--lead=15")
        self.WaitFor(lambda: len(self.Ledger("a", "end")) == 3, "three ends", 290)
        self.assertEqual(self.Ends("a"), 3 * [(75, "requeue")])
        self.assertEqual(len(self.Metrics("a", "metrics.replaced.jsonl")), 0)
        self.OnNode(slurm_run.BINARY, "stop", "a")
        self.WaitFor(lambda: not self.Status("a")["queue"], "empty queue", 60)
        reasons = {end["reason"] for end in self.Ledger("a", "end")}
        self.Report(f"3 starts of a minute, 0 steps done twice, {self.State('a')['step']} steps ({', '.join(sorted(reasons))[:60]}...)")

    def test_a_killed_rank_is_a_failure_with_a_limit(self) -> None:
        self.Submit("a", "train.steps=1000000", "--max_failures=2")
        for start in range(2):
            self.WaitForStep("a", 10, start)
            os.kill(self.RankPid(self.Nodes("a")[1], "a"), signal.SIGKILL)
            begin = time.monotonic()
            self.WaitFor(lambda s=start: len(self.Ledger("a", "end")) > s, "end after a kill", 30)
            self.assertLess(time.monotonic() - begin, 12)
        self.assertEqual([end["action"] for end in self.Ledger("a", "end")], ["requeue", "give_up"])
        self.assertTrue(all(end["failed"] for end in self.Ledger("a", "end")))
        self.WaitFor(lambda: not self.Status("a")["queue"], "empty queue", 30)
        text = self.OnNode(slurm_run.BINARY, "status", "a").stdout
        self.assertIn("failure 2 in a row", text)
        log = self.Read("a", "logs", os.listdir(self.Path("a", "logs"))[0])
        self.assertIn("restart 0,", log)
        self.assertIn("restart 1,", log)

    def test_wrong_data_is_not_tried_again(self) -> None:
        job = self.Submit("a", "--sbatch=--hold")
        os.rename(self.Path("book.txt"), self.Path("gone.txt"))
        self.OnNode("scontrol", "release", job)
        self.WaitForEnd("a")
        self.assertEqual(self.Ends("a"), [(2, "give_up")])
        self.assertIn("book.txt", self.OnNode(slurm_run.BINARY, "status", "a").stdout)

    def test_a_stuck_rank_is_named_and_its_node_left_out(self) -> None:
        settings = [*MANY, "train.save_every=10", "parallel.watchdog_seconds=5"]
        for launcher in ("srun", "mpirun"):
            self.Submit(launcher, *settings, f"--launcher={launcher}")
        stopped = {}
        for launcher in ("srun", "mpirun"):
            self.WaitForStep(launcher, 15)
            stopped[launcher] = self.Nodes(launcher)[1]
            os.kill(self.RankPid(stopped[launcher], launcher), signal.SIGSTOP)
        for launcher, node in stopped.items():
            self.Finishes(launcher)
            self.assertEqual(self.Ends(launcher)[0], (3, "requeue"))
            self.assertEqual(self.Ledger(launcher, "end")[0]["excluded"], [f"n{node}"])
            self.assertNotIn(node, self.Nodes(launcher))
            self.IsAsWhole(launcher, *settings)

    def test_a_node_that_dies_in_mid_save(self) -> None:
        self.Write("slow.c", SLOW_SAVE)
        self.assertEqual(os.system(f"cc -shared -fPIC -o '{self.Path('slow.so')}' '{self.Path('slow.c')}' -ldl"), 0)
        self.Write("setup.sh", f"export LD_PRELOAD={self.Path('slow.so')}\n")
        settings = ["train.steps=120", "train.save_every=40"]
        self.Submit("a", *settings, "--partition=mortal", f"--setup={self.Path('setup.sh')}")
        partial = self.Path("a", "checkpoints", "step-80.partial")
        self.WaitFor(lambda: os.path.exists(partial), "second save")
        slurm_run.CLUSTER.Kill(self.Nodes("a")[1])
        self.Finishes("a", 200)
        self.WaitForEnd("a")
        self.assertEqual(self.Ledger("a", "start")[1]["step"], 40)
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

    def test_two_jobs_on_one_node(self) -> None:
        for run in ("a", "b"):
            self.Submit(run, *MANY, "--nodes=1", "--nodelist=n2")
        for run in ("a", "b"):
            self.Finishes(run)
            self.IsAsWhole(run, *MANY, ranks=2)

    def test_a_launcher_that_lies(self) -> None:
        for code in (0, 1, 143):
            self.Write("setup.sh", f"srun() {{ command srun \"$@\"; return {code}; }}\n")
            job = self.Submit(f"r{code}", *MANY, f"--setup={self.Path('setup.sh')}", "--nodes=1")
            self.WaitForStep(f"r{code}", 20)
            self.OnNode("scancel", "--signal=USR2", f"{job}.0")
        for code in (0, 1, 143):
            self.Finishes(f"r{code}")
            self.WaitForEnd(f"r{code}")
            self.assertEqual(self.Ends(f"r{code}"), [(75, "requeue"), (0, "done")])

    def test_without_scontrol_the_job_ends_and_can_be_submitted_again(self) -> None:
        self.Write("setup.sh", "scontrol() { return 127; }\nsqueue() { return 127; }\n")
        job = self.Submit("a", *MANY, f"--setup={self.Path('setup.sh')}")
        self.WaitForStep("a", 20)
        self.OnNode("scancel", "--signal=USR2", "--batch", job)
        self.WaitForEnd("a")
        self.assertEqual(self.Ends("a"), [(75, "requeue")])
        self.Submit("a", *MANY)
        self.Finishes("a")
        self.IsAsWhole("a", *MANY)

    def test_a_chain_of_jobs(self) -> None:
        job = self.Submit("a", *MANY, "--chain=dependency", "--links=3", "--nodes=1")
        self.WaitForStep("a", 20)
        self.OnNode("scancel", "--signal=USR2", "--batch", job)
        self.Finishes("a")
        self.WaitFor(lambda: not self.Status("a")["queue"], "end of the third link", 60)
        self.assertEqual(self.Ends("a"), [(75, "requeue"), (0, "done")])
        self.assertEqual(len({start["job"] for start in self.Ledger("a", "start")}), 2)
        log = self.Read("a", "logs", f"{int(job) + 2}.out") if os.path.exists(self.Path("a", "logs", f"{int(job) + 2}.out")) else ""
        self.assertTrue(log == "" or "nothing to do" in log, log)
        self.IsAsWhole("a", *MANY, ranks=2)

    def test_of_an_array_one_task_is_requeued(self) -> None:
        job = self.Submit("r{array}", *MANY, "--array=0-1", "--nodes=1", "train.seed=1{array}")
        for i in (0, 1):
            self.WaitForStep(f"r{i}", 20)
        self.OnNode("scancel", "--signal=USR2", "--batch", f"{job}_1")
        for i, ends in enumerate([[(0, "done")], [(75, "requeue"), (0, "done")]]):
            self.Finishes(f"r{i}")
            self.WaitFor(lambda r=f"r{i}", e=ends: self.Ends(r) == e, "ends of the task", 40)
        self.IsAsWhole("r1", *MANY, "train.seed=11", ranks=2)

    def test_gpus_are_seen_by_all_ranks_of_a_node(self) -> None:
        self.Write("setup.sh", "srun bash -c 'echo \"gpus $CUDA_VISIBLE_DEVICES of $SLURM_LOCALID\"'\n")
        job = self.Submit("a", "--nodes=1", "--gpus_per_node=2", f"--setup={self.Path('setup.sh')}")
        self.Finishes("a")
        log = self.Read("a", "logs", f"{job}.out")
        self.assertIn("gpus 0,1 of 0", log)
        self.assertIn("gpus 0,1 of 1", log)

    def test_a_full_folder_ends_the_run(self) -> None:
        os.symlink(os.path.join(slurm_run.CLUSTER.root, "full"), self.Path("full"))
        job = self.Submit("full/a", "train.steps=1000000", "--nodes=1")
        self.WaitForStep("full/a", 20)
        self.OnNode("bash", "-c", "head -c 100M /dev/zero > full/zeros", code=None)
        self.OnNode("scancel", "--signal=USR1", "--batch", job)
        self.WaitFor(lambda: not self.OnNode("squeue", "-h", "-j", job, code=None).stdout, "end of the job", 60)
        self.assertIn("ExitCode=76:0", self.OnNode("scontrol", "show", "job", job).stdout)

    def test_stop_takes_the_run_out_of_the_queue(self) -> None:
        self.Submit("a", "train.steps=1000000", "--chain=dependency", "--links=2")
        self.WaitForStep("a", 10)
        self.assertEqual(self.Status("a")["status"], "running")
        self.OnNode(slurm_run.BINARY, "stop", "a")
        self.WaitFor(lambda: not self.Status("a")["queue"], "empty queue", 40)
        self.assertEqual(self.Ends("a"), [(75, "give_up")])
        self.assertIn("nothing runs or waits", self.OnNode(slurm_run.BINARY, "stop", "a").stdout)
        self.Submit("a", "train.steps=1000000")
        self.WaitForStep("a", 10)
        self.OnNode(slurm_run.BINARY, "stop", "a", "--now")
        self.WaitFor(lambda: not self.Status("a")["queue"], "empty queue", 40)
        self.assertNotIn("requeue", [action for _, action in self.Ends("a")])


class PreemptionTest(SlurmTest):
    def test_a_job_of_higher_priority_takes_the_nodes(self) -> None:
        self.Submit("a", *MANY, "--partition=poor")
        self.WaitForStep("a", 20)
        self.OnNode("sbatch", "--partition=rich", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap", "sleep 1")
        self.Finishes("a")
        self.assertEqual([end["failed"] for end in self.Ledger("a", "end")].count(True), 0)
        self.assertEqual(self.State("a")["restart_count"], 1)
        self.assertIn("job", self.OnNode(slurm_run.BINARY, "status", "a").stdout)
        self.IsAsWhole("a", *MANY)

    def test_twenty_times_at_random_moments(self) -> None:
        """In start-up, steps, saves, validation, moves of experts."""
        seed = int(os.environ.get("UNIPOOL_TEST_SEED", str(time.time_ns() % 10**6)))
        generator = random.Random(seed)
        times = int(os.environ.get("UNIPOOL_PREEMPTIONS", "20"))
        settings = ["train.steps=3000", "train.save_every=25", "train.eval_every=10", "train.eval_batches=1", "parallel.replace_every=10"]
        job = self.Submit("a", *settings, "--max_restarts=100")
        for i in range(times):
            self.WaitFor(lambda n=i: len(self.Ledger("a", "start")) > n, f"start {i} (seed {seed})", 60)
            time.sleep(generator.uniform(0, 3))
            if self.State("a").get("status") == "finished":
                self.fail(f"the run was over after {i} preemptions: too short")
            self.OnNode("scontrol", "requeue", job)
        self.Finishes("a", 200)
        self.assertEqual(len(self.Ledger("a", "start")), times + 1)
        self.assertFalse(any(end["failed"] for end in self.Ledger("a", "end")))
        self.IsAsWhole("a", *settings)


def RunOne(test: unittest.TestCase) -> tuple[str, float, unittest.TestResult]:
    begin, result = time.monotonic(), unittest.TestResult()
    test.run(result)
    name = test.id().split(".")[-1]
    word = "ok" if result.wasSuccessful() else "FAILED"
    print(f"{word:7}{time.monotonic() - begin:6.1f} s  {name}  {slurm_run.REPORT.get(name, '')}", flush=True)
    return name, time.monotonic() - begin, result


def Main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # a limit of time ends the cluster too
    why = WhyNot()
    if why:
        print(f"skipped: {why}")
        return 77
    slurm_run.BINARY, root = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    shutil.rmtree(root, ignore_errors=True)
    slurm_run.CLUSTER = Cluster(root, PARTITIONS, weights={SLOW_NODE: 1})
    tests = [test for case in (PreemptionTest, SubmitTest, RefusalTest) for test in unittest.defaultTestLoader.loadTestsFromTestCase(case)]
    longest = ["twenty", "minute", "mid_save", "slow_node", "stuck"]
    tests.sort(key=lambda test: next((i for i, word in enumerate(longest) if word in test.id()), len(longest)))
    if len(sys.argv) > 3:
        tests = [test for test in tests if any(name in test.id() for name in sys.argv[3:])]
    failed = 0
    try:
        os.makedirs(f"{root}/full")
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", f"{root}/full"], check=True)  # before the nodes: they see it
        slurm_run.CLUSTER.Start()
        with concurrent.futures.ThreadPoolExecutor(int(os.environ.get("UNIPOOL_SLURM_AT_ONCE", "6"))) as pool:
            for _, _, result in pool.map(RunOne, tests):
                for _, text in result.failures + result.errors:
                    failed += 1
                    print(text, flush=True)
    finally:
        slurm_run.CLUSTER.Stop()
        subprocess.run(["umount", "-l", f"{root}/full"], check=False)
    print(f"{len(tests)} tests, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(Main())
