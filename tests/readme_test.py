#!/usr/bin/env python3
"""Runs the commands that the READMEs of DOCUMENTS mark as runnable (```sh runnable), in order, in one empty folder, with
texts made here, a small model and one step for 160 of theirs. Checks also that files and verbs they name exist.

Usage: readme_test.py SOURCE_DIR UNIPOOL_BINARY
"""
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

STEPS_DIVISOR = 160  # the longest run then has the ten steps that importance is measured over
DOCUMENTS = ["README.md", "configs/README.md"]
SMALL = ("model.hidden=32 model.layers=4 model.heads=2 model.kv_heads=1 model.seq_length=32 moe.width=32 "
         "train.eval_every=1 train.eval_batches=1").split()

# Stands where the README's build/unipool is: makes train and its companions small and hands on everything else.
WRAPPER = '''#!/usr/bin/env python3
import os, re, sys
arguments = sys.argv[1:]
if arguments and arguments[0] in ("train", "eval", "generate"):
    def shorter(match):
        steps = int(match[2])  # a few steps are as few already
        return match[1] + str(steps if steps < 10 else max(1, steps // {divisor}))
    arguments = [re.sub(r"^(train\\.(?:decay_)?steps=)(\\d+)$", shorter, argument) for argument in arguments] + {small}
os.execv({binary!r}, [{binary!r}] + arguments)
'''


def RunnableBlocks(readme: str) -> list[str]:
    return re.findall(r"^```sh runnable\n(.*?)^```$", readme, re.M | re.S)


def SomeText(count: int, seed: int) -> str:
    words = "the pool of experts is shared by all layers and every token finds one".split()
    generator = random.Random(seed)
    return " ".join(generator.choice(words) for _ in range(count)) + "\n"


class ReadmeTest(unittest.TestCase):
    source = binary = ""

    def setUp(self) -> None:
        self.readme = ""
        for path in DOCUMENTS:
            with open(os.path.join(self.source, path), encoding="utf-8") as file:
                self.readme += file.read()

    def MakeFolder(self) -> str:
        folder = tempfile.mkdtemp(prefix="unipool-readme-")
        self.addCleanup(shutil.rmtree, folder)
        shutil.copytree(os.path.join(self.source, "configs"), os.path.join(folder, "configs"))
        os.mkdir(os.path.join(folder, "build"))
        wrapper = os.path.join(folder, "build", "unipool")
        with open(wrapper, "w", encoding="utf-8") as file:
            file.write(WRAPPER.format(divisor=STEPS_DIVISOR, small=SMALL, binary=self.binary))
        os.chmod(wrapper, 0o755)
        with open(os.path.join(folder, "book.txt"), "w", encoding="utf-8") as file:
            file.write(SomeText(20000, seed=1))
        with open(os.path.join(folder, "a.jsonl"), "w", encoding="utf-8") as file:
            for i in range(200):
                file.write(json.dumps({"text": SomeText(100, seed=i)}) + "\n")
        return folder

    def test_commands_run(self) -> None:
        folder = self.MakeFolder()
        blocks = RunnableBlocks(self.readme)
        self.assertGreaterEqual(len(blocks), 4, "the README lost its runnable commands")
        for block in blocks:
            # A model after a few steps generates bytes that are no UTF-8.
            done = subprocess.run(["bash", "-euxc", block], cwd=folder, capture_output=True, text=True, errors="replace",
                                  check=False)
            self.assertEqual(0, done.returncode, f"{block}\n{done.stdout}\n{done.stderr}")
        self.CheckRuns(folder)

    def CheckRuns(self, folder: str) -> None:
        """Every run that the README starts has its metrics to the last step, and the checkpoint of that step."""
        last_step: dict[str, int] = {}
        for run, steps in re.findall(r"run_dir=(\S+) train\.steps=(\d+)", self.readme):
            for seed in "123":  # the README's loop
                count = int(steps)
                last_step[run.replace("$seed", seed)] = count if count < 10 else max(1, count // STEPS_DIVISOR)
        self.assertGreaterEqual(len(last_step), 4)
        for run, step in last_step.items():
            with open(os.path.join(folder, run, "metrics.jsonl"), encoding="utf-8") as file:
                found = [line["step"] for line in map(json.loads, file) if "loss" in line]
            self.assertEqual(list(range(1, step + 1)), found, run)
            self.assertTrue(os.path.exists(os.path.join(folder, run, f"checkpoints/step-{step}/config.json")), run)

    def test_paths_exist(self) -> None:
        paths = re.findall(r"`((?:runtime|kernels|parallel|models|launcher|configs|tests|tools)/[\w./]+)`", self.readme)
        self.assertGreater(len(paths), 10)
        for path in paths:
            self.assertTrue(os.path.exists(os.path.join(self.source, path)), f"README.md names {path}")

    def test_verbs_exist(self) -> None:
        verbs = set(re.findall(r"tools/dev ([\w-]+)", self.readme))
        self.assertTrue({"demo", "test"} <= verbs)
        usage = subprocess.run([os.path.join(self.source, "tools/dev"), "help"], capture_output=True, text=True, check=True)
        for verb in verbs:
            self.assertRegex(usage.stdout, rf"(?m)^  {verb} ", f"README.md names the verb {verb}")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    ReadmeTest.binary = os.path.abspath(sys.argv.pop(2))
    ReadmeTest.source = os.path.abspath(sys.argv.pop(1))
    unittest.main()
