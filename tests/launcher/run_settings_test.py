#!/usr/bin/env python3
"""Settings, flags and surroundings mean what they say, seen from outside: what a command does not use is refused, sizes
that cannot be and memory that is not there are a sentence at once, ranks that differ are found before the first step."""
import os
import subprocess

import run_harness
from run_harness import MPI_ENVIRONMENT, RunTest, SIGNS_OF_A_BUG


class SettingsTest(RunTest):
    def Refuse(self, pattern: str, *arguments: str, seconds: float = 10) -> None:
        outcome = self.Run(*arguments, code=2)
        self.assertIn(pattern, outcome.text)
        for sign in SIGNS_OF_A_BUG:
            self.assertNotIn(sign, outcome.text)
        self.assertLess(outcome.seconds, seconds)

    def Shell(self, command: str, code: int = 0) -> str:
        """$U is the program, $M mpirun."""
        environment = {**os.environ, **MPI_ENVIRONMENT, "U": run_harness.BINARY, "M": run_harness.MPIRUN}
        outcome = subprocess.run(["bash", "-c", command], cwd=self.folder, env=environment, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, check=False, timeout=120)
        text = outcome.stdout.decode(errors="replace")
        self.assertEqual(outcome.returncode, code, f"{command}\n{text}")
        return text

    def test_sizes_that_cannot_be(self) -> None:
        for size in ("moe.experts=2147483647", "model.layers=1000000", "model.vocab=1000000000", "moe.width=2147483647",
                     "model.hidden=2147483646", "model.seq_length=2147483647", "parallel.ranks=2147483647",
                     "parallel.stages=2147483647", "train.micro_batch=2147483647"):
            field, value = size.split("=")
            for command in ("info", "train"):
                self.Refuse(f"{field}: is {value}; must be at most", command, "small.txtpb", size, seconds=3)
        self.Refuse("there are", "info", "small.txtpb", "moe.experts=2147483647")
        self.assertFalse(os.path.exists(self.Path("run")))

    def test_more_memory_than_there_is(self) -> None:
        big = ("model.hidden=65536", "moe.width=65536", "moe.experts=4096")
        self.Refuse("these settings need", "train", "small.txtpb", *big)
        self.Refuse("most for moe.experts x moe.width x model.hidden", "train", "small.txtpb", *big, "parallel.ranks=2")
        self.Run("info", "small.txtpb", *big)  # which plans for other machines
        text = self.Shell("ulimit -v 400000; $U train small.txtpb model.hidden=1024 moe.width=4096 moe.experts=64", code=2)
        self.assertIn("address space (ulimit -v)", text)
        self.assertEqual(text.count("error:"), 1, text)

    def test_flags(self) -> None:
        self.Refuse("--checkpoint: is a flag of eval, generate", "train", "small.txtpb", "--checkpoint=/no/such")
        self.Refuse("--sequences=-5", "eval", "small.txtpb", "--sequences=-5")
        for flag in ("--temperature=nan", "--temperature=inf", "--temperature=-1"):
            self.Refuse("--temperature=", "generate", "small.txtpb", "--prompt=a", flag)
        self.Refuse("--top_p=", "generate", "small.txtpb", "--prompt=a", "--temperature=1", "--top_p=nan")

    def test_paths_of_the_configuration(self) -> None:
        with open(self.Path("small.txtpb"), "rb") as file:
            small = file.read()
        os.makedirs(self.Path("lr=1e-3"))
        self.Write("lr=1e-3/config.txtpb", small)
        self.Run("info", "lr=1e-3/config.txtpb")
        self.Write("bom.txtpb", b"\xef\xbb\xbf" + small)
        self.Run("info", "bom.txtpb")
        self.Shell("HOME=$PWD $U train small.txtpb 'run_dir=~/mine' train.steps=1 'data.train=~/book.txt'")
        self.assertTrue(os.path.isdir(self.Path("mine", "checkpoints")))
        self.assertFalse(os.path.exists(self.Path("~")))

    def test_generate_and_eval_take_what_fits(self) -> None:
        self.Train("train.steps=2")
        folder = "run/checkpoints/step-2"
        self.Run("generate", f"--checkpoint={folder}", "--prompt=a", "--max_tokens=3")
        self.Refuse("the configuration file is missing", "generate", "--prompt=a")
        self.Run("eval", "small.txtpb", "parallel.ranks=3", "train.micro_batch=5")
        self.Run("eval", "small.txtpb", "parallel.ranks=3", "parallel.stages=2")
        self.Refuse("holds no config.txtpb", "generate", "--checkpoint=run/checkpoints", "--prompt=a")

    def test_variables_of_a_slurm_step(self) -> None:
        slurm = "SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=4 "
        self.assertIn("tokenize", self.Shell(slurm + "$U help"))
        self.assertIn("hidden", self.Shell(slurm + "$U train small.txtpb --print_config"))
        self.assertIn("Parameters", self.Shell(slurm + "$U info small.txtpb"))
        self.Write("lines.jsonl", '{"text": "abc"}\n')
        self.Shell(slurm + "$U tokenize --input=lines.jsonl --output_prefix=out --tokenizer=bytes")
        self.assertIn("error: --jsom", self.Shell(slurm + "$U train --jsom", code=2))

    def test_threads_that_cannot_be_started(self) -> None:
        text = self.Shell("ulimit -v 700000; ulimit -s 200000; $U train small.txtpb parallel.ranks=4", code=2)
        self.assertRegex(text, r"error: the thread of rank \d of 4 cannot be started")
        self.assertNotIn("terminate", text)

    def test_ranks_with_other_settings(self) -> None:
        for setting in ("train.lr=0.5", "train.seed=7", "moe.width=24", "run_dir=other"):
            text = self.Shell(f"$M -np 1 $U train small.txtpb : -np 1 $U train small.txtpb {setting}", code=2)
            self.assertIn("ranks have different settings: " + setting.split("=", maxsplit=1)[0], text)
            self.assertEqual(text.count("error:"), 1, text)
        self.assertFalse(os.path.exists(self.Path("run")))

    def test_ranks_with_other_data_or_another_run_dir(self) -> None:
        with open(self.Path("book.txt"), encoding="utf-8") as file:
            book = file.read()
        for folder, end in (("a", "."), ("b", "#")):
            os.makedirs(self.Path(folder))
            self.Write(f"{folder}/book.txt", book + end)
        both = "$M -np 1 --wdir $PWD/a $U train ../small.txtpb {0} : -np 1 --wdir $PWD/b $U train ../small.txtpb {0}"
        text = self.Shell(both.format("run_dir=$PWD/run"), code=2)
        self.assertIn("ranks see different data: rank 0 has book.txt: ", text)
        text = self.Shell("cp a/book.txt b; " + both.format(""), code=2)
        self.assertIn("is not the same folder on all hosts", text)
        self.assertFalse(os.path.exists(self.Path("a", "run")))

    def test_changed_settings_are_told_with_their_effect(self) -> None:
        self.Train("train.steps=4")
        text = self.Train("train.steps=8").text
        self.assertIn("the learning rate of step 5 is", text)
        self.assertIn("train.steps is 4 there and 8 here", text)
        text = self.Train("train.steps=9", "train.global_batch=24").text
        self.assertIn("a step has 384 tokens from here on, and had 192", text)
        tokens = [line["tokens"] for line in self.Metrics() if "loss" in line]
        self.assertEqual(tokens, [192 * step for step in range(1, 9)] + [192 * 8 + 384])


if __name__ == "__main__":
    run_harness.Main(__doc__)
