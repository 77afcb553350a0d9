#!/usr/bin/env python3
"""The live line of a run on a terminal, by itself and under mpirun; plain lines elsewhere; warnings once. What watch, plot
and compare show of runs."""
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
import xml.etree.ElementTree

import run_harness
from run_harness import JOB_ENVIRONMENT, RunTest, WaitUntil

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
            self.assertRegex(wide, r"x balance  (ties \d+ %  )?grad norm \d.*  lr \d.*  shares 1 step old  \[")

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


class LookingTest(RunTest):
    """watch, plot and compare: at runs that are written, finished, stopped, and at what is no run."""

    def Watch(self, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        process = subprocess.Popen([run_harness.BINARY, "watch", *arguments], cwd=self.folder, stdin=theirs, stdout=theirs,
                                   stderr=theirs, start_new_session=True, env={**os.environ, "LC_ALL": "C.UTF-8", "TERM": "xterm"})
        os.close(theirs)
        self.addCleanup(os.close, ours)
        self.addCleanup(self.End, process)
        return process, ours

    def ReadUntil(self, terminal: int, pattern: str, limit_seconds: float = 20) -> str:
        end, seen = time.monotonic() + limit_seconds, ""
        while not re.search(pattern, seen):
            self.assertLess(time.monotonic(), end, f"{pattern} did not come: {seen!r}")
            if select.select([terminal], [], [], 0.2)[0]:
                try:
                    seen += os.read(terminal, 65536).decode(errors="replace")
                except OSError:
                    self.fail(f"{pattern} did not come: {seen!r}")
        return seen

    def test_watch_follows_a_run_and_ends_with_q_or_an_interrupt(self) -> None:
        training = self.Start("train", "small.txtpb", "train.steps=100000", "train.save_every=0", "train.eval_every=0")
        WaitUntil(lambda: os.path.exists(self.Path("run/metrics.jsonl")), "the first step")
        process, terminal = self.Watch("run")
        first = self.ReadUntil(terminal, r"run  running  step (\d+)/100000")
        self.ReadUntil(terminal, r"loss \d")
        step = int(re.findall(r"step (\d+)/", first)[-1])
        WaitUntil(lambda: int(re.findall(r"step (\d+)/", self.ReadUntil(terminal, r"step \d+/100000"))[-1]) > step, "more steps", 20)
        os.write(terminal, b"q")
        self.assertIn("\033[?1049l", self.ReadUntil(terminal, r"\033\[\?1049l"), "the screen was not given back")
        self.assertEqual(process.wait(10), 0)
        training.send_signal(signal.SIGTERM)
        self.assertEqual(self.Finish(training).code, 75)
        self.assertRegex(self.Run("watch", "run", "--once").text, r"^run  stopped  step \d+/100000\n(?s:.*)stopped by SIGTERM")
        process, terminal = self.Watch("run")
        self.ReadUntil(terminal, r"run  stopped")
        process.send_signal(signal.SIGINT)
        self.ReadUntil(terminal, r"\033\[\?1049l")
        self.assertEqual(process.wait(10), 0)

    def test_watch_tells_a_killed_run(self) -> None:
        training = self.Start("train", "small.txtpb", "train.steps=100000", "train.save_every=0")
        WaitUntil(lambda: os.path.exists(self.Path("run/metrics.jsonl")) and len(self.Metrics()) > 3, "steps")
        training.kill()
        self.Finish(training)
        self.assertRegex(self.Run("watch", "run", "--once").text, r"^run  killed  step")

    def test_plot_draws_in_the_terminal_and_as_svg(self) -> None:
        self.Train()
        self.Train("run_dir=other", "train.lr=1e-3")
        self.assertRegex(self.Run("plot", "run").text, r"^loss, nats by step\n(?s:.*)  a run\n  b run, validation\n")
        both = self.Run("plot", "run", "other/", "--metric=grad_norm", "--x=tokens", "--smooth=3").text
        self.assertRegex(both, r"^grad_norm, mean of 3 steps by tokens\n(?s:.*)  a run\n  b other\n")
        self.Run("plot", "run", "other", "--svg=both.svg", "--metric=peak_memory.weights")
        with open(self.Path("both.svg"), encoding="utf-8") as file:
            root = xml.etree.ElementTree.fromstring(file.read())
        self.assertEqual(len(root.findall("{http://www.w3.org/2000/svg}polyline")), 2)
        with open(self.Path("run/metrics.jsonl"), "a", encoding="utf-8") as file:
            file.write('{"step":13,"lo')
        self.assertRegex(self.Run("plot", "run").text, r"^loss")  # as while it is written
        utf8 = self.Finish(self.Start("plot", "run", "--metric=loss", environment={"LC_ALL": "C.UTF-8"})).text
        self.assertRegex(utf8, "[\u2801-\u28ff]")

    def test_a_picture_replaces_no_other_file(self) -> None:
        self.Train()
        with open(self.Path("run/metrics.jsonl"), encoding="utf-8") as file:
            before = file.read()
        self.assertIn("is no SVG picture", self.Run("plot", "run", "--svg", "run/metrics.jsonl", code=2).text)
        with open(self.Path("run/metrics.jsonl"), encoding="utf-8") as file:
            self.assertEqual(file.read(), before)
        self.assertIn("--svg: is empty", self.Run("plot", "run", "--svg", "", code=2).text)
        piped = self.Run("plot", "run", "--svg", "/dev/stdout").stdout.decode()
        self.assertTrue(piped.startswith("<svg") and piped.endswith("</svg>\n"), piped[-200:])

    def test_a_failed_start_spoils_no_look(self) -> None:
        self.Train()
        self.Train("run_dir=other", "train.lr=1e-3")
        os.mkdir(self.Path("failed"))
        self.Write("failed/state.json", "{}")
        outcome = self.Run("plot", "run", "failed", "--metric=loss")
        self.assertRegex(outcome.text, r"note: failed: has no metrics yet\n")
        self.assertRegex(outcome.stdout.decode(), r"^loss")
        self.assertIn("failed: has no metrics yet", self.Run("plot", "failed", code=2).text)
        self.assertIn("note: failed: has done no step yet", self.Run("compare", "run", "failed", "other").text)
        self.assertIn("failed: has done no step yet", self.Run("compare", "run", "failed", code=2).text)

    def test_colors_stay_out_of_a_pipe_behind_mpirun(self) -> None:
        self.Train()
        process = self.Start("plot", "run", mpi=1, environment={"TERM": "xterm"})
        text = self.Finish(process).text
        self.assertRegex(text, "(?m)^loss, nats by step")
        self.assertNotIn("\033", text)

    def test_compare_pairs_seeds(self) -> None:
        for seed in (1, 2):
            self.Train(f"run_dir=low-{seed}", f"train.seed={seed}", "train.lr=1e-3")
            self.Train(f"run_dir=high-{seed}", f"train.seed={seed}")
        runs = ["low-1", "low-2", "high-2", "high-1"]
        text = self.Run("compare", *runs).text
        self.assertRegex(text, r"(?m)^high-\*  +-\d\.\d{4} (±|\+-) \d\.\d{4}")
        self.assertRegex(text, r"(?m)^settings that differ +low-\* +high-\*\ntrain.lr +0.001 +0.003$")
        result = json.loads(self.Run("compare", *runs, "--json").stdout)
        losses = {run: [line["loss"] for line in self.Steps(run) if line["step"] > 10] for run in runs}
        mean = {run: sum(values) / len(values) for run, values in losses.items()}
        pairs = [mean["high-1"] - mean["low-1"], mean["high-2"] - mean["low-2"]]
        difference = result["groups"][1]["difference"]["loss"]
        self.assertAlmostEqual(difference["mean"], sum(pairs) / 2)
        self.assertAlmostEqual(difference["error"], abs(pairs[0] - pairs[1]) / 2)

    def test_compare_tells_what_cannot_be_compared(self) -> None:
        with open(self.Path("book.txt"), encoding="utf-8") as file:
            book = file.read()
        self.Write("other.txt", book[::-1])
        self.Write("same.txt", book)
        self.Train("train.lr=1e-3")
        self.Train("run_dir=longer", "train.lr=1e-3")
        self.Train("run_dir=longer", "train.lr=1e-3", "train.steps=18")
        self.Train("run_dir=other", "data.train=other.txt")
        self.Train("run_dir=same", "data.train=same.txt")
        text = self.Run("compare", "run", "longer", "other", "same").text
        self.assertIn("note: longer: had other settings up to step 12: train.steps 12 (now 18)", text)
        self.assertRegex(text, r"(?m)^other +- +-$")
        self.assertIn("note: other: it was trained on other texts (other.txt, in run book.txt)", text)
        self.assertRegex(text, r"(?m)^same +-\d\.\d{4} +-\d\.\d{4}$")  # the same text under another name

    def test_what_is_no_run_is_a_sentence(self) -> None:
        self.Train()
        self.Write("alien.jsonl", '{"epoch": 1}\n')
        os.mkdir(self.Path("empty"))
        for arguments, said in [
                (["watch"], "a folder is missing"), (["watch", "nowhere"], "nowhere: no such folder"),
                (["watch", "empty"], "empty: is not the folder of a run"), (["watch", "small.txtpb"], "small.txtpb: is a file"),
                (["plot"], "plot: the folder of a run is missing"), (["plot", "run", "./run/"], "is named twice"),
                (["plot", "alien.jsonl"], "another program wrote it"), (["plot", "book.txt"], "this is no file of metrics"), (["compare", "run", "book.txt"], "book.txt: is a file"),
                (["plot", "run", "--metric=los"], "did you mean loss?"), (["plot", "run", "--x=time"], "--x: expected step or tokens"),
                (["plot", "run", "--smooth=0"], "--smooth=0: must be 1 or more"), (["plot", "run", "--smooth=x"], "--smooth: expected"),
                (["plot", "run", "--svg=no/such/a.svg"], "no/such/a.svg"), (["plot", "run", "--svg=empty"], "empty"),
                (["compare", "run"], "takes two runs or more"), (["compare", "run", "empty"], "empty: is not the folder"),
                (["compare", "run", "run/"], "is named twice"), (["compare"], "takes two runs or more")]:
            outcome = self.Run(*arguments, code=2)
            self.assertIn(said, outcome.text, arguments)
            for sign in run_harness.SIGNS_OF_A_BUG:
                self.assertNotIn(sign, outcome.text)
        for command in (["watch", "run"], ["plot", "run"]):
            with open("/dev/full", "wb") as full:
                done = subprocess.run([run_harness.BINARY, *command], cwd=self.folder, stdout=full, stderr=subprocess.PIPE, check=False)
            self.assertEqual(done.returncode, 2)
            self.assertIn(b"No space left", done.stderr)


if __name__ == "__main__":
    run_harness.Main(__doc__)
