#!/usr/bin/env python3
"""The live line of a run on a terminal, by itself and under mpirun; plain lines elsewhere; warnings once."""
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time
import unittest

import run_harness
from run_harness import JOB_ENVIRONMENT, RunTest

LIVE = re.compile(r"step \d+/\d+  loss \d+\.\d{4}  ETA \w+  [\d.]+K? tokens/s")


def OnTerminal(command: list[str], columns: int, folder: str, limit_seconds: float = 120) -> str:
    """What a terminal of that width gets to see."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(command, cwd=folder, env={**os.environ, **JOB_ENVIRONMENT}, stdin=theirs, stdout=theirs,
                               stderr=theirs, start_new_session=True)
    os.close(theirs)
    end, seen = time.monotonic() + limit_seconds, b""
    try:
        while time.monotonic() < end:
            try:
                part = os.read(ours, 65536)
            except OSError:  # nobody has it open any more
                break
            if not part:
                break
            seen += part
        process.wait(max(1.0, end - time.monotonic()))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        os.close(ours)
    text = seen.decode().replace("\r\n", "\n")
    if process.returncode != 0:
        raise AssertionError(f"exit code {process.returncode}\n{text}")
    return text


class LiveTest(RunTest):
    def LiveLines(self, text: str) -> list[str]:
        states = [state for line in text.split("\n") for state in line.split("\r")]
        return [state.replace("\033[K", "") for state in states if LIVE.match(state)]

    def Seen(self, columns: int, mpi: int) -> str:
        command = ([run_harness.MPIRUN, "-np", str(mpi)] if mpi else []) + [run_harness.BINARY, "train", "small.txtpb"]
        text = OnTerminal([*command, f"run_dir=run-{columns}-{mpi}", "train.steps=40"], columns, self.folder)
        lines = self.LiveLines(text)
        self.assertGreaterEqual(len(lines), 2, text)
        for line in lines:
            self.assertLess(len(line), columns, line)
            self.assertRegex(line, r"\[#*\.*\]$")
        self.assertNotIn("step 40/40", re.sub(r"\r[^\n]*", "", text), "the line is no line that stays in place")
        self.assertRegex(text, r"(?m)^model   .*\ndevice  .*\ndata    .*\nlayout  .*\nstarting from random weights\n")
        self.assertRegex(text, r"\ndone    40 steps in \d+s at .* tokens/s; loss .* -> .*, valid .*\nnext    .*generate")
        return lines[-1]

    def test_live_line_fits_narrow_and_wide_terminals(self) -> None:
        for mpi in (0, 2):
            narrow, wide = self.Seen(80, mpi), self.Seen(200, mpi)
            self.assertNotIn("lr ", narrow)
            self.assertRegex(wide, r"x balance  grad norm \d.*  lr \d.*  shares 1 step old  \[")

    def test_plain_lines_where_there_is_no_terminal(self) -> None:
        for mpi in (0, 2):
            outcome = self.Run("train", "small.txtpb", f"run_dir=plain-{mpi}", "train.steps=40", mpi=mpi)
            steps = re.findall(r"^step (\d+)/40  loss", outcome.text, re.M)
            self.assertEqual((steps[0], steps[-1]), ("1", "40"))
            self.assertLess(len(steps), 20, "a line a step")
            self.assertNotIn("\r", outcome.text)

    def test_marked_output_of_mpirun_is_plain(self) -> None:
        text = OnTerminal([run_harness.MPIRUN, "--tag-output", "-np", "1", run_harness.BINARY, "train", "small.txtpb"], 80,
                          self.folder)
        self.assertEqual(self.LiveLines(text), [])
        self.assertRegex(text, r"step 12/12  loss")

    def test_a_warning_is_told_once(self) -> None:
        os.rename(self.Path("book.txt"), self.Path("a.jsonl"))
        for mpi, overrides in ((0, ["parallel.ranks=3"]), (3, [])):
            outcome = self.Train("data.train=a.jsonl", f"run_dir=warned-{mpi}", *overrides, mpi=mpi)
            self.assertEqual(len(re.findall("^warning: a.jsonl is read as plain bytes", outcome.text, re.M)), 1, outcome.text)
            self.assertNotIn("token_source", outcome.text)


if __name__ == "__main__":
    run_harness.Main(__doc__)
