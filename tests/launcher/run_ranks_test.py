#!/usr/bin/env python3
"""One file of settings with and without a launcher: what counts is said once, and a command line that contradicts is
refused. The file is configs/demo.txtpb, which says 4 ranks."""
import json
import os
import shutil

import run_harness
from run_harness import Outcome, RunTest

DEMO = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../configs/demo.txtpb")
SMALL = ["data.train=book.txt", "run_dir=run", "model.layers=2", "model.hidden=32", "model.seq_length=16", "moe.width=16",
         "train.steps=2", "train.eval_every=2", "train.eval_batches=1"]
NOTE = "note: 3 ranks, as the launcher (mpirun or srun) started; parallel.ranks: 4 of the file"


class RanksTest(RunTest):
    def setUp(self) -> None:
        super().setUp()
        shutil.copy(DEMO, self.Path("demo.txtpb"))

    def Demo(self, command: str, *arguments: str, mpi: int = 0, code: int = 0) -> Outcome:
        return self.Run(command, "demo.txtpb", *arguments, *SMALL, mpi=mpi, code=code)

    def RanksOfRun(self) -> str:
        with open(self.Path("run", "config.txtpb"), encoding="utf-8") as file:
            return file.read().split("parallel {\n  ranks: ")[1].split("\n")[0]

    def test_one_file_serves_threads_and_a_launcher(self) -> None:
        alone = self.Demo("train")
        self.assertNotIn("note: ", alone.text)
        self.assertEqual(self.RanksOfRun(), "4")
        losses = [line["loss"] for line in self.Steps()]
        shutil.rmtree(self.Path("run"))

        launched = self.Demo("train", mpi=3)
        self.assertEqual(launched.text.count(NOTE), 1, launched)
        self.assertEqual(self.RanksOfRun(), "3")
        for ours, theirs in zip([line["loss"] for line in self.Steps()], losses, strict=True):
            self.assertAlmostEqual(ours, theirs, delta=1e-5 * theirs)
        self.assertIn("\n    2  ", launched.text)  # the third rank's peak memory
        self.assertNotIn("\n    3  ", launched.text)

    def test_auto_takes_the_machine_s_cores(self) -> None:
        outcome = self.Demo("train", "parallel.ranks=auto")
        self.assertRegex(outcome.text, r"note: \d+ ranks? on \d+ cores?")
        self.assertLessEqual(int(self.RanksOfRun()), len(os.sched_getaffinity(0)))
        self.assertEqual(self.Demo("info", "--json", "parallel.ranks=0", mpi=2).text.count("note:"), 0)

    def test_a_run_goes_on_with_other_ranks_and_keeps_its_settings_when_done(self) -> None:
        self.Demo("train")
        resumed = self.Run("train", "demo.txtpb", *SMALL, "parallel.ranks=2", "train.steps=3")
        note = "experts are placed anew, for this number of ranks; no loss changes by it"
        self.assertEqual(resumed.text.count(note), 1, resumed)
        self.assertNotIn("owners_on", resumed.text)
        with open(self.Path("run", "config.txtpb"), encoding="utf-8") as file:
            settings = file.read()
        done = self.Run("train", "demo.txtpb", *SMALL, "parallel.ranks=2", "train.steps=1", "train.lr=1e-3")
        self.assertIn("the run has done 3 steps, and train.steps is 1", done.text)
        with open(self.Path("run", "config.txtpb"), encoding="utf-8") as file:
            self.assertEqual(settings, file.read())

    def test_eval_info_and_settings_count_alike(self) -> None:
        self.Demo("train")
        evaluated = self.Demo("eval", "--json", mpi=3)
        self.assertEqual(evaluated.text.count(NOTE), 1, evaluated)
        result = json.loads(evaluated.stdout)  # the note is not in the way of programs
        self.assertAlmostEqual(result["loss"], json.loads(self.Demo("eval", "--json").stdout)["loss"], delta=1e-5)
        for mpi, ranks in [(0, 4), (3, 3)]:
            self.assertEqual(json.loads(self.Demo("info", "--json", mpi=mpi).stdout)["world"]["ranks"], ranks)
            self.assertIn(f"parallel {{\n  ranks: {ranks}\n", self.Demo("train", "--print_config", mpi=mpi).stdout.decode())
        self.assertIn("note: 1 rank, as", self.Demo("generate", "--prompt=a", "--max_tokens=1", mpi=1).text)
        self.assertIn("start it without mpirun", self.Demo("generate", "--prompt=a", mpi=3, code=2).text)

    def test_a_command_line_that_contradicts_the_launcher_is_refused(self) -> None:
        for command, *flags in [("train",), ("eval",), ("info",), ("generate", "--prompt=a"), ("train", "--print_config")]:
            outcome = self.Demo(command, *flags, "parallel.ranks=4", mpi=3, code=2)
            sentence = "parallel.ranks: the command line says 4, but the launcher (mpirun or srun) started 3"
            self.assertEqual(outcome.text.count(sentence), 1, outcome)
            self.assertFalse(os.path.exists(self.Path("run")))
        agreed = self.Demo("train", "parallel.ranks=3", mpi=3)
        self.assertNotIn("note: ", agreed.text)


if __name__ == "__main__":
    run_harness.Main(__doc__)
