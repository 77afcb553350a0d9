#!/usr/bin/env python3
"""tools/bench/torch_bench.py, which lets our step and PyTorch's take turns: with players of both programs, what it reports, in
which order they step, and what it says where one of them ends or PyTorch is missing; and a pair of steps of the real programs.

Usage: torch_bench_test.py SOURCE_DIR STEP_BENCH      UNIPOOL_TORCH_PYTHON: a Python that has PyTorch (default: this one)
The pair of real steps is skipped by name where there is no PyTorch, or where STEP_BENCH is not built (`tools/dev bench step`).
"""
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

PYTHON = os.environ.get("UNIPOOL_TORCH_PYTHON", sys.executable)
# Both programs by their arguments. Steps take 1, 2, 3, ... s of ours and so many times that of theirs as FACTORS says.
PLAYER = """#!{python}
import json, os, sys
if sys.argv[1] == "-c":
    sys.exit(int(os.environ.get("NO_TORCH", "0")))
if sys.argv[1] == "--write":
    open(os.path.join(sys.argv[2], "step.txtpb"), "w").close()
    sys.exit(0)
is_ours = sys.argv[1] == "--turns"
precision = sys.argv[2] if is_ours else sys.argv[sys.argv.index("--precision") + 1]
factors = [float(factor) for factor in os.environ["FACTORS"].split()]
for step, line in enumerate(sys.stdin):
    if not is_ours and step == int(os.environ.get("ENDS_AT", "99")):
        sys.exit("out of memory")
    with open({log!r}, "a") as log:
        log.write(("ours " if is_ours else "PyTorch ") + precision + "\\n")
    seconds = (step + 1) * (1 if is_ours else factors[step])
    print(json.dumps({{"seconds": 10 * seconds, "processor_seconds": seconds, "loss": 5.5 if is_ours else 5.25}}), flush=True)
"""


class TorchBenchTest(unittest.TestCase):
    bench, step_bench = "torch_bench.py", "step_bench"

    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="unipool-torch-bench-test-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.player, self.log = (os.path.join(self.folder, name) for name in ("player", "log"))
        with open(self.player, "w", encoding="utf-8") as file:
            file.write(PLAYER.format(python=sys.executable, log=self.log))
        os.chmod(self.player, os.stat(self.player).st_mode | stat.S_IXUSR)

    def Run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, self.bench, *arguments], capture_output=True, text=True, check=False,
                              env={**os.environ, **environment})

    def Play(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        environment = {"FACTORS": "50 50 50 2 4 3", "UNIPOOL_TORCH_PYTHON": self.player, **environment}
        return self.Run("--bench", self.player, "--pairs", "3", *arguments, **environment)

    def test_medians_and_ratios_are_those_of_the_steps_that_count(self) -> None:
        """Ours takes 4, 5, 6 s after three steps that do not count, PyTorch 8, 20, 18 s: medians 5 and 18."""
        done = self.Play("--only", "FP32")
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertIn("FP32: PyTorch takes 3.60 times as long (ratio of medians; 3 pairs from 2.00 to 4.00)", done.stdout)
        rows = [line.split() for line in done.stdout.splitlines() if re.match(r"  (ours|PyTorch) ", line)]
        self.assertEqual(["ours", "FP32", "5000", "4000", "6000", "410", "5.5000"], rows[0])
        self.assertEqual(["PyTorch", "FP32", "18000", "8000", "20000", "114", "5.2500"], rows[1])
        self.assertEqual(["ours", "FP32", "50000", "40000", "60000", "41", "5.5000"], rows[2])  # by the other clock
        self.assertEqual(4, len(rows))

    def test_all_programs_take_turns_there_and_back(self) -> None:
        self.assertEqual(0, self.Play().returncode)
        with open(self.log, encoding="utf-8") as file:
            order = file.read().splitlines()
        there = ["ours FP32", "PyTorch FP32", "ours BF16", "PyTorch BF16"]
        self.assertEqual(3 * (there + there[::-1]), order)

    def test_a_program_that_ends_ends_the_comparison(self) -> None:
        done = self.Play("--only", "BF16", ENDS_AT="2")
        self.assertEqual(1, done.returncode)
        self.assertIn("torch_bench.py: PyTorch in BF16 ended with 1; what it said is above", done.stderr)
        self.assertNotIn("median", done.stdout)

    def test_without_pytorch_ours_alone_is_measured(self) -> None:
        done = self.Play(NO_TORCH="1")
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertIn(f"PyTorch: not measured, {self.player} has none; UNIPOOL_TORCH_PYTHON names a Python that has", done.stdout)
        self.assertEqual(4, len(re.findall(r"^  ours ", done.stdout, re.M)))
        self.assertNotIn("PyTorch takes", done.stdout)

    def test_real_programs_train_the_same_model(self) -> None:
        """Random weights differ, so losses are equal only roughly: near that of chance, ln 256 = 5.545."""
        has_torch = subprocess.run([PYTHON, "-c", "import torch.nn"], capture_output=True, check=False).returncode == 0
        if not has_torch or not os.path.exists(self.step_bench):
            print("[  SKIPPED ] TorchBench.RealProgramsTrainTheSameModel (0 ms)")
            self.skipTest("step_bench is not built" if has_torch else
                          "PyTorch is not installed; UNIPOOL_TORCH_PYTHON names a Python that has it")
        done = self.Run("--bench", self.step_bench, "--pairs", "1", "--only", "FP32", "--compile", "OFF")
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)
        losses = [float(line.split()[-1]) for line in done.stdout.splitlines() if re.match(r"  (ours|PyTorch) ", line)]
        self.assertEqual(4, len(losses), done.stdout)
        for loss in losses:
            self.assertLess(abs(loss - losses[0]), 0.2, done.stdout)
            self.assertLess(abs(loss - 5.4), 0.5, done.stdout)
        self.assertRegex(done.stdout, r"FP32: PyTorch takes \d+\.\d\d times as long \(ratio of medians; 1 pairs")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    TorchBenchTest.step_bench = os.path.abspath(sys.argv.pop(2))
    TorchBenchTest.bench = os.path.join(os.path.abspath(sys.argv.pop(1)), "tools/bench/torch_bench.py")
    unittest.main()
