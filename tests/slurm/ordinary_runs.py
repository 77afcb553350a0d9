"""Submitted runs to which happens what is planned: they are stopped, go on, end, in all the ways there are to submit them."""
import json
import os
import re
import shlex
import signal
import subprocess

import slurm_run
from slurm_run import ODD, SlurmTest


class OrdinaryRunTest(SlurmTest):
    def test_both_launchers_give_the_losses_of_threads(self) -> None:
        for launcher in ("srun", "mpirun"):
            self.Submit(f"{launcher} {ODD}", f"--launcher={launcher}")
        for launcher in ("srun", "mpirun"):
            self.Finishes(f"{launcher} {ODD}")
            self.IsAsWhole(f"{launcher} {ODD}")
            self.WaitForEnds(f"{launcher} {ODD}", [(0, "done")])
        self.assertFalse(os.path.exists(self.Path("oops")))

    def test_the_dry_run_is_what_is_submitted(self) -> None:
        flags = ["--nodes=2", "--ranks_per_node=2", "--time=10", "--lead=60"]
        dry = self.OnNode(slurm_run.BINARY, "submit", "small.txtpb", "run_dir=a", *flags, "--dry_run", "--force").stdout
        self.assertFalse(os.path.exists(self.Path("a")))
        self.OnNode(slurm_run.BINARY, "submit", "small.txtpb", "run_dir=a", *flags, "--force", "--wait")
        self.assertEqual(self.Read("a", "submit", "001.sbatch"), dry)
        self.assertEqual(self.Status("a")["status"], "finished")

    def test_usr2_of_the_batch_shell_stops_and_requeues_once(self) -> None:
        for launcher in ("srun", "mpirun"):
            self.Hold(launcher, 30)
            job = self.Submit(launcher, f"--launcher={launcher}")
            self.WaitForHeld(launcher)
            self.OnNode("scancel", "--signal=USR2", "--batch", job)
            self.WaitFor(lambda at=launcher, of=job: "USR2: save and stop" in self.Read(at, "logs", f"{of}.out"), "word of the signal")
            self.Release(launcher)
        for launcher in ("srun", "mpirun"):
            self.Finishes(launcher)
            self.WaitForEnd(launcher)
            self.assertEqual(self.Ends(launcher), [(75, "requeue"), (0, "done")])
            self.assertEqual(self.State(launcher)["restart_count"], 1)
            self.assertIn(self.Ledger(launcher, "end")[0]["step"], (30, 31))
            self.IsAsWhole(launcher)
        self.AFinishedRunStaysAsItIs("srun")

    def AFinishedRunStaysAsItIs(self, run_dir: str) -> None:
        """Whether a person starts it again, or Slurm."""
        before = self.Metrics(run_dir), self.State(run_dir)
        job = self.OnNode("sbatch", "--parsable", f"{run_dir}/submit/001.sbatch").stdout.strip()
        self.WaitForJobState(job, "COMPLETED")
        self.OnNode("scontrol", "requeue", job)
        log = self.Path(run_dir, "logs", f"{job}.out")
        self.WaitFor(lambda: self.Read(log).count("nothing to do") == 2, "second needless start", 60)
        self.WaitForJobState(job, "COMPLETED")
        self.assertEqual((self.Metrics(run_dir), self.State(run_dir)), before)

    def WaitForJobState(self, job: str, state: str) -> None:
        self.WaitFor(lambda: f"JobState={state} " in self.OnNode("scontrol", "show", "job", job).stdout, f"{state} job {job}", 60, every=0.5)

    def test_usr1_saves_and_goes_on_and_one_rank_may_stop_all(self) -> None:
        self.Hold("a", 20)
        job = self.Submit("a")
        self.WaitForHeld("a")
        for _ in range(3):
            self.OnNode("scancel", "--signal=USR1", "--batch", job)
        self.Hold("a", 30)  # on it goes to there
        self.WaitFor(lambda: self.State("a")["saved_step"] > 0 and len(self.Metrics("a")) >= 30, "save")
        self.WaitForHeld("a")
        self.assertEqual(self.Ends("a"), [])
        os.kill(self.RankPid(self.Nodes("a")[1], "a"), signal.SIGUSR2)
        self.Release("a")
        self.Finishes("a")
        self.WaitForEnd("a")
        self.assertEqual(self.Ends("a"), [(75, "requeue"), (0, "done")])
        self.IsAsWhole("a")

    def test_signals_of_several_ranks_are_one_action(self) -> None:
        """All ranks get the same one, and two get different ones, in one step."""
        wanted = {"all": 4 * [signal.SIGUSR2], "two": [signal.SIGUSR1, 0, 0, signal.SIGUSR2]}
        for run, signals in wanted.items():
            self.Hold(run, 20)
            self.Submit(run)
            self.WaitForHeld(run)
            pids = [self.RankPid(node, run, local) for node in self.Nodes(run) for local in (0, 1)]
            for pid, number in zip(pids, signals):
                os.kill(pid, number)
            self.Release(run)
        for run in wanted:
            self.Finishes(run)
            self.WaitForEnd(run)
            self.assertEqual(self.Ends(run), [(75, "requeue"), (0, "done")])
            end = self.Ledger(run, "end")[0]
            self.assertIn("SIGUSR2", end["reason"])
            self.assertEqual(os.listdir(self.Path(run, "checkpoints")).count(f"step-{end['step']}"), 1)
            saves = sorted(os.listdir(self.Path(run, "checkpoints")))
            self.assertEqual(saves, sorted([f"step-{end['step']}", "step-60"]), "one save, and the one of the end")
            self.IsAsWhole(run)

    def test_two_jobs_on_one_node(self) -> None:
        for run in ("a", "b"):
            self.Hold(run, 10)
            self.Submit(run, "--nodes=1", "--nodelist=n2")
        for run in ("a", "b"):
            self.WaitForHeld(run)  # both are there
        for run in ("a", "b"):
            self.Release(run)
            self.Finishes(run)
            self.assertEqual(self.Nodes(run), [2])
            self.IsAsWhole(run, ranks=2)

    def test_without_scontrol_the_job_ends_and_can_be_submitted_again(self) -> None:
        self.Write("setup.sh", "scontrol() { return 127; }\nsqueue() { return 127; }\n")
        self.Hold("a", 20)
        job = self.Submit("a", f"--setup={self.Path('setup.sh')}")
        self.WaitForHeld("a")
        self.OnNode("scancel", "--signal=USR2", "--batch", job)
        self.WaitFor(lambda: "save and stop" in self.Read("a", "logs", f"{job}.out"), "word of the signal")
        self.Release("a")
        self.WaitForEnd("a")
        self.assertEqual(self.Ends("a"), [(75, "requeue")])
        self.assertIn("cannot be requeued from here", self.Read("a", "logs", f"{job}.out"))
        self.assertIn("ExitCode=75:0", self.OnNode("scontrol", "show", "job", job).stdout)
        self.Submit("a")
        self.Finishes("a")
        self.IsAsWhole("a")

    def test_a_chain_of_jobs_goes_on_without_scontrol(self) -> None:
        self.Write("setup.sh", "scontrol() { return 127; }\n")
        self.Hold("a", 20)
        job = self.Submit("a", "--chain=dependency", "--links=3", "--nodes=1", f"--setup={self.Path('setup.sh')}")
        self.WaitForHeld("a")
        self.OnNode("scancel", "--signal=USR2", "--batch", job)
        self.WaitFor(lambda: "save and stop" in self.Read("a", "logs", f"{job}.out"), "word of the signal")
        self.Release("a")
        self.Finishes("a")
        self.LeavesTheQueue("a")
        self.assertEqual(self.Ends("a"), [(75, "requeue"), (0, "done")])
        jobs = self.Ledger("a", "submitted")[0]["jobs"]
        self.assertEqual([start["job"] for start in self.Ledger("a", "start")], jobs[:2])
        self.assertIn("nothing to do: all 60 steps are done", self.Read("a", "logs", f"{jobs[2]}.out"))
        shown = self.OnNode("scontrol", "show", "job", jobs[2]).stdout
        self.assertIn("ExitCode=0:0", shown)
        self.assertLess(int(shown.split("RunTime=00:")[1][:2]), 1, shown)
        self.IsAsWhole("a", ranks=2)

    def test_of_an_array_one_task_is_requeued(self) -> None:
        for i in (0, 1):
            self.Hold(f"r{i}", 20)
        job = self.Submit("r{array}", "--array=0-1", "--nodes=1", "train.seed=1{array}")
        for i in (0, 1):
            self.WaitForHeld(f"r{i}")
        self.OnNode("scancel", "--signal=USR2", "--batch", f"{job}_1")
        self.WaitFor(lambda: "save and stop" in self.Read("rarray", "logs", f"{job}_1.out"), "word of the signal")
        for i, ends in enumerate([[(0, "done")], [(75, "requeue"), (0, "done")]]):
            self.Release(f"r{i}")
            self.Finishes(f"r{i}")
            self.WaitForEnds(f"r{i}", ends)
        self.IsAsWhole("r1", "train.seed=11", ranks=2)

    def test_gpus_are_seen_by_all_ranks_of_a_node(self) -> None:
        self.Write("setup.sh", "srun bash -c 'echo \"gpus $CUDA_VISIBLE_DEVICES of $SLURM_LOCALID\"'\n")
        job = self.Submit("a", "--nodes=1", "--gpus_per_node=2", f"--setup={self.Path('setup.sh')}")
        self.Finishes("a")
        log = self.Read("a", "logs", f"{job}.out")
        self.assertIn("gpus 0,1 of 0", log)
        self.assertIn("gpus 0,1 of 1", log)

    def test_stop_takes_the_run_out_of_the_queue(self) -> None:
        self.Hold("a", 10)
        self.Submit("a", "--chain=dependency", "--links=2")
        self.WaitForHeld("a")
        status = self.Status("a")
        self.assertEqual((status["status"], len(status["queue"])), ("running", 2))
        self.OnNode(slurm_run.BINARY, "stop", "a")
        self.Pace("a", 100000)  # the file is looked for once a second
        self.Release("a")
        self.LeavesTheQueue("a")
        self.assertEqual(self.Ends("a"), [(75, "give_up")])
        self.assertIn("nothing runs or waits", self.OnNode(slurm_run.BINARY, "stop", "a").stdout)
        self.Hold("a", 10)
        self.Submit("a")
        self.WaitForHeld("a")
        self.OnNode(slurm_run.BINARY, "stop", "a", "--now")
        self.Release("a")
        self.LeavesTheQueue("a")
        self.assertNotIn("requeue", [action for _, action in self.Ends("a")])

    def MpirunOn(self, nodes: list[int], *arguments: str) -> subprocess.CompletedProcess[str]:
        """Two ranks a node, with a hostfile, as the README shows it; what stands in for ssh goes to a node of this machine."""
        words = [shlex.join(slurm_run.CLUSTER.On(node, "bash", "-c")) for node in nodes]
        cases = "\n".join(f"  n{node}) shift; exec {text} \"$*\" ;;" for node, text in zip(nodes, words))
        self.Write("agent", f"#!/bin/bash\ncase $1 in\n{cases}\nesac\n")
        os.chmod(self.Path("agent"), 0o755)
        self.Write("hosts", "".join(f"n{node} slots=2\n" for node in nodes))
        return self.OnNode("mpirun", "--hostfile", "hosts", "--map-by", "ppr:2:node", "--bind-to", "none", slurm_run.BINARY, "train",
                           "small.txtpb", *arguments, environment={"OMPI_MCA_plm_rsh_agent": self.Path("agent")})

    def test_mpirun_over_several_nodes_without_slurm(self) -> None:
        done = self.MpirunOn([1, 2], "run_dir=a")
        self.assertIn("4 ranks (processes) on 2 hosts", done.stdout)
        self.assertEqual(self.Metrics("a"), self.Whole())

    def test_bytes_between_nodes_are_those_of_their_links(self) -> None:
        """What is recorded as sent between nodes left their network devices, with overhead of packets. No other test uses these nodes."""
        def Sent() -> int:
            return sum(int(subprocess.run(slurm_run.CLUSTER.On(node, "cat", "/sys/class/net/eth0/statistics/tx_bytes"), check=True,
                                          capture_output=True).stdout) for node in (13, 14))
        before = Sent()
        self.MpirunOn([13, 14], "run_dir=a", "model.hidden=256", "moe.width=16", "model.seq_length=64", "train.steps=20")
        sent = Sent() - before
        lines = [json.loads(line) for line in self.Read("a", "metrics.jsonl").splitlines()]
        recorded = sum(line.get("wire_bytes_inter", 0) for line in lines)
        self.assertGreater(recorded, 20e6)
        self.assertLess(recorded, sum(line.get("wire_bytes", 0) for line in lines))
        self.Report(f"recorded {recorded} bytes, the links carried {sent}: {sent / recorded:.3f} times as many")
        self.assertGreater(sent / recorded, 1.0)
        self.assertLess(sent / recorded, 1.06)

    def test_logs_follow_a_run_over_its_starts(self) -> None:
        self.Hold("a", 20)
        job = self.Submit("a", "--chain=dependency", "--links=2")
        self.assertRegex(self.OnNode(slurm_run.BINARY, "logs", self.folder, code=2).stderr, "was not submitted, so no log")
        self.WaitForHeld("a")
        follower = subprocess.Popen(slurm_run.CLUSTER.On(0, slurm_run.BINARY, "logs", "a", "--follow"), cwd=self.folder,
                                    env=self.environment, stdout=subprocess.PIPE, text=True)
        self.addCleanup(follower.kill)
        self.OnNode("scancel", "--signal=USR2", "--batch", job)
        self.WaitFor(lambda: "save and stop" in self.Read("a", "logs", f"{job}.out"), "word of the signal")
        self.Release("a")
        self.Finishes("a")
        self.LeavesTheQueue("a")
        followed = follower.communicate(timeout=600)[0]
        logs = [self.Read("a", "logs", f"{name}.out") for name in self.Ledger("a", "submitted")[0]["jobs"]]
        self.assertIn("requeue: ", logs[0])
        self.assertIn("done: all 60 steps are done", logs[1])
        self.assertTrue(followed.startswith(logs[0]), followed)
        self.assertIn("done: all 60 steps are done", followed)
        shown = self.OnNode(slurm_run.BINARY, "logs", "a").stdout
        self.assertTrue(shown and logs[1].endswith(shown), shown)
        self.assertIn("restart 0, nodes", shown.splitlines()[0])

    def test_spare_nodes_stand_in_for_slow_ones(self) -> None:
        slurm_run.CLUSTER.SlowWire(9, "30mbit")
        for launcher in ("srun", "mpirun"):
            self.Submit(launcher, "--partition=wide", "--nodelist=n[7-9]", "--spare_nodes=1", f"--launcher={launcher}")
        for launcher in ("srun", "mpirun"):
            self.Finishes(launcher)
            self.WaitForEnds(launcher, [(0, "done")])
            text = self.OnNode(slurm_run.BINARY, "status", launcher).stdout
            self.assertIn("n[7-9], spare n9 (n9: an exchange takes", text)
            self.assertEqual(sorted(self.State(launcher)["hosts"]), ["n7", "n8"])
            self.IsAsWhole(launcher)

    def test_report_names_a_slow_wire(self) -> None:
        """Sums say that it is the wire between nodes; records also say whose."""
        slurm_run.CLUSTER.SlowWire(9, "30mbit")
        for record in ("SUMMARY", "FULL"):
            self.Submit(record, "--partition=wide", "--nodelist=n[7-9]", "--nodes=3", "--ranks_per_node=1", f"traffic.record={record}",
                        "traffic.every=10", "traffic.first_step=10", "traffic.num_steps=8", "parallel.stages=1", "train.steps=30",
                        "train.global_batch=6", "model.hidden=128", "model.seq_length=64", "train.save_every=0")
        for record in ("SUMMARY", "FULL"):
            self.Finishes(record)
            text = self.OnNode(slurm_run.BINARY, "report", record, "--text", f"--html={record}.html").stdout
            self.assertIn("Verdict: transfer-dominated", text)
            words = " ".join(text.split())
            self.assertRegex(words, r"\d\. .* (waits for the wire: .* of it between nodes|ranks wait for wires between nodes|a slow wire: )")
            if record == "FULL":
                self.assertRegex(words, r"a slow wire: what (node 2 sends|goes to node 2) ")
                self.Report(re.search("a slow wire: [^;]*", words)[0])

    def test_status_and_stop_of_a_run_without_slurm(self) -> None:
        self.Hold("a", 10)
        run = subprocess.Popen([slurm_run.BINARY, "train", "small.txtpb", "run_dir=a", "parallel.ranks=4"], cwd=self.folder,
                               env={**self.environment, "LD_PRELOAD": slurm_run.HOLD, "PATH": "/usr/bin:/bin"},
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(run.kill)
        self.WaitFor(lambda: os.path.exists(self.Path("a", "held")), "step at which to act")
        text = self.Here("status", "a")
        for words in ["running, step", "of 60", f"process {run.pid}", "tokens/s; last step"]:
            self.assertIn(words, text)
        self.assertNotIn("queue", text)
        self.assertIn("saves and stops at the end of its step", self.Here("stop", "a"))
        self.Pace("a", 100000)  # the file is looked for once a second
        self.Release("a")
        self.assertEqual(run.wait(600), 75)
        status = json.loads(self.Here("status", "a", "--json"))
        self.assertEqual((status["status"], status["queue"], status["step"]), ("stopped", [], len(self.Metrics("a"))))
        self.assertIn("the file stop", self.Here("status", "a"))
        self.assertIn("nothing runs or waits", self.Here("stop", "a"))

    def Here(self, *arguments: str) -> str:
        """The program outside of the cluster, where Slurm's commands are not in PATH."""
        path = self.Path("without-slurm")
        os.makedirs(path, exist_ok=True)
        return subprocess.run([slurm_run.BINARY, *arguments], cwd=self.folder, env={**self.environment, "PATH": path},
                              capture_output=True, text=True, check=True).stdout
