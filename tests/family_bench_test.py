"""tools/bench/family_bench.py with runs of a few steps: what rows and table say, that nothing is done twice, what is refused.
Arguments: root of the tree, the program."""
from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

ROOT, PROGRAM = (sys.argv.pop(1) for _ in range(2))
BENCH = os.path.join(ROOT, "tools", "bench", "family_bench.py")
sys.path.insert(0, os.path.dirname(BENCH))
import family_table  # noqa: E402
from family_variants import SIZES, variants_of  # noqa: E402

TINY = ["model.hidden=16", "model.seq_length=16", "moe.width=8", "train.eval_batches=1"]


class TableTest(unittest.TestCase):
    def test_differences_are_paired(self) -> None:
        """Seeds differ by 1, variants by 0.1, 0.2 and 0.3: the error is that of the latter."""
        reference = {seed: {"valid_loss": float(seed)} for seed in (1, 2, 3, 4)}
        rows = {seed: {"valid_loss": seed + 0.1 * seed} for seed in (1, 2, 3, 9)}
        difference = family_table.paired_difference(rows, reference)
        assert difference is not None
        self.assertAlmostEqual(difference[0], 0.2)
        self.assertAlmostEqual(difference[1], 0.1 / math.sqrt(3))
        self.assertEqual(difference[2], 3)
        self.assertEqual(family_table.difference_text(difference), "+0.2000 ± 0.0577")
        self.assertEqual(family_table.difference_text(family_table.paired_difference({1: {"valid_loss": 0.5}}, reference)),
                         "-0.5000 (one seed)")
        self.assertIsNone(family_table.paired_difference({7: {"valid_loss": 1.0}}, reference))

    def test_every_size_has_experts_for_its_groups(self) -> None:
        for size in SIZES.values():
            self.assertEqual(size.experts, 8 * size.layers)
            variants = variants_of(size)
            different = {(*variant.settings, variant.begins_at_half_depth) for variant in variants.values()}
            self.assertEqual(len(different), len(variants))


class BenchTest(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="unipool-family-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.results = os.path.join(self.folder, "results")
        os.makedirs(self.results)
        choose = random.Random(5)
        words = ["".join(choose.choices("abcdefgh", k=2 + i % 5)) for i in range(50)]
        texts = [" ".join(choose.choices(words, k=4000)) for _ in range(2)]
        with open(os.path.join(self.folder, "train.jsonl"), "w", encoding="utf-8") as file:
            file.write(json.dumps({"text": texts[0]}) + "\n")
        with open(os.path.join(self.folder, "valid.txt"), "w", encoding="utf-8") as file:
            file.write(texts[1])

    def command(self, *arguments: str, steps: int = 4) -> list[str]:
        return [sys.executable, BENCH, self.results, *TINY, f"train.steps={steps}", f"train.eval_every={steps}", "--size", "small",
                "--program", PROGRAM, *arguments]

    def text(self) -> list[str]:
        return ["--train", os.path.join(self.folder, "train.jsonl"), os.path.join(self.folder, "absent.txt"),
                "--valid", os.path.join(self.folder, "valid.txt")]

    def bench(self, *arguments: str, code: int = 0, steps: int = 4) -> str:
        outcome = subprocess.run(self.command(*arguments, steps=steps), capture_output=True, text=True, check=False)
        self.assertEqual(outcome.returncode, code, outcome.stdout + outcome.stderr)
        return outcome.stdout + outcome.stderr

    def row(self, name: str) -> dict[str, float]:
        with open(os.path.join(self.results, "small", name + ".json"), encoding="utf-8") as file:
            row: dict[str, float] = json.load(file)
        return row

    def test_rows_table_and_going_on(self) -> None:
        some = ["--variants", "vanilla,unipool_positive", "--seeds", "1,2"]
        text = self.bench(*self.text(), *some)
        self.assertIn("absent.txt is not there and is left out", text)
        self.assertRegex(text, r"vanilla, seed 1: validation loss \d\.\d{4}")
        first = self.row("vanilla-1")
        self.assertEqual((first["step"], first["tokens"]), (4, 4 * 16 * 16))
        self.assertNotEqual(first["valid_loss"], self.row("vanilla-2")["valid_loss"])
        table = self.bench("--table", *some)
        self.assertNotIn("seed 1:", table)
        difference = sum(self.row(f"unipool_positive-{seed}")["valid_loss"] - self.row(f"vanilla-{seed}")["valid_loss"]
                         for seed in (1, 2)) / 2
        self.assertIn(f"| {difference:+.4f} ± ", table)
        again = self.bench(*self.text(), *some)
        self.assertNotIn("seed 1:", again)
        self.assertEqual(self.row("vanilla-1"), first)
        self.assertIn("was made with other settings", self.bench(*self.text(), *some, code=2, steps=5))

    def test_what_cannot_run_says_why(self) -> None:
        text = self.bench("model.no_such_setting=1", *self.text()[:2], *self.text()[3:], "--variants", "dense", "--seeds", "1")
        self.assertRegex(text, r"dense, seed 1: does not run: .*no_such_setting")
        self.assertRegex(text, r"\| dense.* \| does not run: ")
        self.assertIn("valid_loss", self.fill("dense"), "a refused row is tried again")
        self.assertIn("there is no variant nobody", self.bench(*self.text(), "--variants", "nobody", code=2))
        self.assertIn("there is no text to train on", self.bench("--train", "absent.txt", code=2))

    def fill(self, name: str) -> dict[str, float]:
        self.bench(*self.text(), "--variants", name, "--seeds", "1")
        return self.row(name + "-1")

    def test_a_run_that_was_stopped_goes_on(self) -> None:
        some = [*self.text(), "--variants", "dense", "--seeds", "1"]
        with subprocess.Popen(self.command(*some, steps=600), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              text=True) as child:
            metrics = os.path.join(self.results, "small", "runs", "dense-1", "metrics.jsonl")
            end = time.monotonic() + 60
            while not (os.path.exists(metrics) and os.path.getsize(metrics) > 20000) and time.monotonic() < end:
                time.sleep(0.02)
            child.send_signal(signal.SIGTERM)
            _, errors = child.communicate(timeout=60)
        self.assertIn("the same command goes on", errors)
        self.assertTrue(os.listdir(os.path.join(self.results, "small", "runs", "dense-1", "checkpoints")))
        self.bench(*some, steps=600)
        broken = self.row("dense-1")["valid_loss"]
        shutil.rmtree(os.path.join(self.results, "small"))
        self.bench(*some, steps=600)
        self.assertEqual(self.row("dense-1")["valid_loss"], broken)


if __name__ == "__main__":
    unittest.main()
