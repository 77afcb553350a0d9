"""What `unipool submit` refuses before anything is submitted: exit code 2, a sentence each, all at once."""
import fcntl
import json
import os

import slurm_run
from slurm_run import SlurmTest


class RefusalTest(SlurmTest):
    def test_all_problems_are_told_at_once(self) -> None:
        text = self.Submit("/dev/shm/refused", "data.train=missing.txt", "train.global_batch=7", "--partition=mian", "--lead=400",
                           "--sbatch=--gpus-per-task=1", code=2)
        for words in ["run_dir: /dev/shm/refused is in this node's memory (tmpfs)", "missing.txt", "for 2 nodes x 2 ranks",
                      "there is no mian; did you mean main?", "--lead: is 400 s, more than half of --time (0:10:00); make it at most 300",
                      "use --gpus_per_node"]:
            self.assertIn(words, text)
        self.assertEqual(self.OnNode("squeue", "-h", "-n", "refused").stdout, "")
        self.assertFalse(os.path.exists("/dev/shm/refused"))

    def test_limits_of_the_partition(self) -> None:
        text = self.Submit("a", "--nodes=9", "--time=2:00:00", "--gpus_per_node=3", "--mem=4G", "--cpus_per_rank=10",
                           "parallel.stages=1", "train.global_batch=18", "train.micro_batch=1", code=2)
        for words in ["the limit of partition main is 1:00:00", "--nodes: is 9; there are 4", "--gpus_per_node: is 3; a node of partition main has 2",
                      "--mem: is 4G; a node of partition main has 2000M", "need 20 cores of a node"]:
            self.assertIn(words, text)
        text = self.Submit("a", "model.hidden=2048", "moe.width=4096", "model.layers=8", code=2)
        self.assertRegex(text, r"memory: the 2 ranks of a node need .* give --mem \d+M, more --nodes")

    def test_runs_that_cannot_be_submitted_again(self) -> None:
        job = self.Submit("queued", "--sbatch=--hold")
        text = self.Submit("queued", code=2)
        self.assertIn(f"run_dir: job {job} of {self.Path('queued')} is in the queue already (PENDING", text)
        self.assertIn("unipool stop", text)
        self.OnNode(slurm_run.BINARY, "stop", "queued")
        os.mkdir(self.Path("locked"))
        with open(self.Path("locked", "lock"), "w", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.assertIn("another run is using", self.Submit("locked", code=2))
        self.Whole("train.steps=3")
        self.assertIn("has done its 3 steps; raise train.steps", self.Submit("whole", "train.steps=3", code=2))

    def test_a_save_that_takes_longer_than_the_time_allows(self) -> None:
        self.Whole("train.steps=3")
        state = self.State("whole")
        state["save_seconds"] = {"median": 100, "p90": 100, "max": 100}
        self.Write("whole/state.json", json.dumps(state))
        self.assertRegex(self.Submit("whole", "--time=5", code=2),
                         r"--time: is 0:05:00, too short: a step and a save of this run take up to 12\d s; make it at least 0:0[89]:00")
        self.assertRegex(self.Submit("whole", "--lead=50", code=2), r"--lead: is 50 s; .* take up to 12\d s; make it at least 12\d")
        dry = self.OnNode(slurm_run.BINARY, "submit", "small.txtpb", "run_dir=whole", "--time=50", "--dry_run", "--force", "--nodes=2",
                          "--ranks_per_node=2", "--partition=poor")
        self.assertRegex(dry.stderr, r"has 5 s to save \(GraceTime 0, KillWait 5\); a step and a save of this run take up to 12\d s")

    def test_no_sbatch_and_unknown_flags_and_placeholders(self) -> None:
        os.mkdir(self.Path("bin"))
        for program in ("bash", "hostname", "mount"):
            os.symlink(f"/bin/{program}", self.Path("bin", program))
        path = {"PATH": self.Path("bin")}
        text = self.OnNode("env", f"PATH={path['PATH']}", slurm_run.BINARY, "submit", "small.txtpb", "--time=10", code=2).stderr
        self.assertIn("sbatch: is not in PATH", text)
        self.assertIn("--nodez: unknown flag; did you mean --nodes?", self.Submit("a", "--nodez=2", code=2))
        self.Write("mine.sh", "#!/bin/bash\n{{sbatch_option}}\n")
        self.assertIn("unknown placeholder {{sbatch_option}}; did you mean sbatch_options?",
                      self.Submit("a", f"--template={self.Path('mine.sh')}", code=2))
        self.Write("site.txtpb", 'partion: "main"\n')
        self.assertIn("did you mean partition", self.Submit("a", f"--site={self.Path('site.txtpb')}", code=2))
        self.assertFalse(os.path.exists(self.Path("a")))

    def test_the_sites_defaults_hold_and_flags_override_them(self) -> None:
        os.mkdir(self.Path("unipool"))
        self.Write("unipool/cluster.txtpb", 'partition: "wide" setup_line: "export SITE=1" time: "20" account: "a b"\n')
        script = self.OnNode(slurm_run.BINARY, "submit", "small.txtpb", "run_dir=a", "--dry_run", "--time=10", "--nodes=2",
                             "--ranks_per_node=2", "--force").stdout
        for line in ["#SBATCH --partition=wide", "export SITE=1", "#SBATCH --time=10", '#SBATCH --account="a b"']:
            self.assertIn(line + "\n", script)
