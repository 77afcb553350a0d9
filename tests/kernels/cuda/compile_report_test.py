#!/usr/bin/env python3
"""Does the build keep the compiler's report of each CUDA kernel, and fail if one spills?

Usage: compile_report_test.py SCRIPT
"""
import os
import subprocess
import sys
import tempfile
import unittest

PTXAS = """ptxas info    : Compiling entry function '_Zgood' for 'sm_90'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Compiling entry function '_Zplanted' for 'sm_90'
    8 bytes stack frame, {spill} bytes spill stores, 8 bytes spill loads
a warning of nvcc
"""


class CompileReportTest(unittest.TestCase):
    script = ""

    def Run(self, report: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        folder = tempfile.mkdtemp(prefix="unipool-compile-report-")
        self.object = os.path.join(folder, "kernel.o")
        command = [sys.executable, "-c", f"import sys; sys.stderr.write({report!r}); sys.exit({status})", "-o", self.object]
        return subprocess.run([sys.executable, self.script] + command, stderr=subprocess.PIPE, text=True, check=False)

    def Report(self) -> str:
        with open(self.object + ".ptxas.txt", encoding="utf-8") as file:
            return file.read()

    def test_spill_fails_and_names_the_kernel(self) -> None:
        done = self.Run(PTXAS.format(spill=16))
        self.assertEqual(done.returncode, 1)
        self.assertIn("_Zplanted spills", done.stderr)
        self.assertIn("a warning of nvcc", done.stderr)
        self.assertNotIn("_Zgood", done.stderr)
        self.assertIn("16 bytes spill stores", self.Report())

    def test_without_spills_the_report_is_kept(self) -> None:
        done = self.Run(PTXAS.format(spill=0).replace("8 bytes spill loads", "0 bytes spill loads"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr, "a warning of nvcc\n")
        self.assertIn("_Zgood", self.Report())

    def test_failure_of_the_compiler_stays(self) -> None:
        self.assertEqual(self.Run("error: no\n", 3).returncode, 3)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    CompileReportTest.script = sys.argv.pop(1)
    unittest.main()
