#!/usr/bin/env python3
"""What `report` says of runs as people make them: text, page (in a headless Chromium without network), time line, matrix,
lines; live and killed runs; folders with nothing to report."""
import glob
import json
import re
import shutil
import subprocess
import unittest
from typing import Any

import run_harness
from run_harness import SIGNS_OF_A_BUG, RunTest, WaitUntil

FULL = ["traffic.record=FULL", "traffic.first_step=2", "traffic.num_steps=3", "train.steps=6", "train.eval_every=0",
        "train.save_every=0"]
SCREENS = ["verdict", "ranks", "matrix", "blame", "layers", "step", "experts", "sizes", "whatif", "quality", "run"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class ReportTest(RunTest):
    def Record(self, *arguments: str, run_dir: str = "run", mpi: int = 0) -> None:
        self.Run("train", "small.txtpb", f"run_dir={run_dir}", *FULL, *arguments, mpi=mpi)

    def Screen(self, page: str, name: str) -> str:
        found = re.search(rf'<section id="{name}">(.*?)</section>', page, re.S)
        self.assertIsNotNone(found, name)
        assert found
        return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", found[1]))

    def Page(self, name: str) -> str:
        with open(self.Path(name), encoding="utf-8") as file:
            return file.read()

    def test_text_and_page_of_threads_and_processes(self) -> None:
        for mpi in (0, 4):
            run = f"run{mpi}"
            self.Record("parallel.ranks=4", run_dir=run, mpi=mpi)
            text = self.Run("report", run).text
            self.assertIn("records of every exchange of steps 2 to 4", text)
            self.assertRegex(text, r"Verdict: [a-z-]+\n")
            self.assertRegex(text, r"= compute .* \+ idle .* \+ exposed ")
            self.assertIn("What if: PREDICTED", text)
            self.assertEqual([line for line in text.splitlines() if run not in line and len(line) > 80], [])
            page = self.Page(f"{run}/traffic/report.html")
            for screen in SCREENS:
                self.assertGreater(len(self.Screen(page, screen)), 60, screen)
            self.assertNotRegex(page, r"https?:|src=|@import")
            self.assertLess(len(page), 5_000_000)

    def test_idle_and_exposed_add_up_to_blocked(self) -> None:
        self.Record("parallel.ranks=2")
        self.Run("report", "run", "--jsonl=lines.jsonl")
        with open(self.Path("lines.jsonl"), encoding="utf-8") as file:
            all_lines: list[dict[str, Any]] = [json.loads(line) for line in file]
        lines = [line for line in all_lines if "expert" not in line]
        self.assertGreater(len(lines), 100)
        sent = received = 0
        for line in lines:
            self.assertEqual(line["blocked_ns"], line["idle_ns"] + line["idle_receiver_ns"] + line["exposed_ns"])
            sent += sum(size for _, size in line["to"])
            received += sum(size for _, size in line["from"])
        self.assertEqual(sent, received)
        self.assertGreater(sent, 0)
        experts = all_lines[len(lines):]
        self.assertEqual([(line["expert"], line["layer"]) for line in experts],
                         [(expert, layer) for expert in range(7) for layer in range(3)])

    def test_rows_of_experts_are_those_of_the_records(self) -> None:
        """What layers count when they choose, and what exchanges bring to the ranks that own the experts."""
        self.Record("parallel.ranks=2", "traffic.every=1", "parallel.replace_every=0")
        self.Run("report", "run", "--jsonl=lines.jsonl")
        by_rank: dict[tuple[int, int], float] = {}  # layer, rank
        with open(self.Path("lines.jsonl"), encoding="utf-8") as file:
            for line in map(json.loads, file):
                if "expert" in line:
                    self.assertEqual((line["first_step"], line["last_step"], len(line["ranks"])), (2, 4, 1))
                    key = line["layer"], line["ranks"][0]
                    by_rank[key] = by_rank.get(key, 0) + line["rows"]
                elif line["operation"] == "dispatch forward":
                    key = line["layer"], line["rank"]
                    size = line["bytes_self"] + sum(size for _, size in line["from"])
                    by_rank[key] = by_rank.get(key, 0) - size / line["row_bytes"] / 3
        self.assertEqual(len(by_rank), 6)
        for key, difference in by_rank.items():
            self.assertAlmostEqual(difference, 0, msg=str(key))
        text = self.Run("report", "run").text
        self.assertRegex(text, r"Experts with the most rows, steps 2 to 4\n")
        self.assertRegex(text, r"\n7 experts share \d+\.\d rows a step of 3 layers")
        self.assertIn("Rows by expert and layer", self.Screen(self.Page("run/traffic/report.html"), "experts"))
        self.assertIn("a step of 1 layer", self.Run("report", "run", "--layer=1", "--text").text)

    def test_trace_is_balanced(self) -> None:
        self.Record("parallel.ranks=4", "parallel.stages=2")
        self.Run("report", "run", "--trace=trace.json", "--steps=3")
        with open(self.Path("trace.json"), encoding="utf-8") as file:
            trace = json.load(file)
        open_events: dict[str, int] = {}
        for event in trace["traceEvents"]:
            change = {"b": 1, "e": -1, "s": 1000, "f": -1000}.get(event["ph"], 0)
            if change:
                key = event["cat"] + event["id"]
                open_events[key] = open_events.get(key, 0) + change
            if event["ph"] == "X":
                self.assertEqual(event["args"]["step"], 3)
        self.assertTrue(open_events)
        self.assertEqual(set(open_events.values()), {0})

    def test_matrix_is_square_and_has_its_command(self) -> None:
        self.Record("parallel.ranks=3")
        text = self.Run("report", "run", "--matrix=matrix.txt").text
        with open(self.Path("matrix.txt"), encoding="utf-8") as file:
            rows = [[int(number) for number in line.split()] for line in file]
        self.assertEqual([len(row) for row in rows], [3, 3, 3])
        self.assertEqual([rows[i][i] for i in range(3)], [0, 0, 0])
        self.assertIn("NCCL_TESTS_ALLTOALLV_MATRIX_FILE=matrix.txt mpirun -np 3", text)

    def Matrix(self, run: str, *choice: str) -> tuple[list[int], str]:
        text = self.Run("report", run, "--matrix=matrix.txt", *choice).text
        with open(self.Path("matrix.txt"), encoding="utf-8") as file:
            return [int(number) for number in file.read().split()], text

    def test_matrices_of_steps_layers_and_operations_add_up(self) -> None:
        self.Record("parallel.ranks=3", "traffic.every=3")
        mean, text = self.Matrix("run")
        self.assertIn("bytes of a step, the mean of steps 2 to 4; to replay them with nccl-tests:", text)
        steps = [self.Matrix("run", f"--steps={step}") for step in (2, 3, 4)]
        self.assertIn("bytes of step 3;", steps[1][1])
        self.assertNotEqual(steps[0][0], steps[1][0], "routing changes")
        for i, number in enumerate(mean):
            self.assertAlmostEqual(number, sum(step[i] for step, _ in steps) / 3, delta=1)
        choice = ["--steps=3", "--operation=dispatch forward"]
        whole, _ = self.Matrix("run", *choice)
        layers = [self.Matrix("run", *choice, f"--layer={layer}") for layer in range(3)]
        self.assertIn("bytes of step 3, dispatch forward, layer 2;", layers[2][1])
        self.assertEqual([sum(of) for of in zip(*[layer for layer, _ in layers])], whole)
        self.assertGreater(sum(whole), 0)
        lanes = [sum(self.Matrix("run", "--steps=3", f"--lane={lane}")[0]) for lane in ("forward", "backward")]
        self.assertGreater(min(lanes), 0)
        self.assertLess(sum(lanes), sum(steps[1][0]), "gradients are of no lane")

    def test_sums_have_no_matrix_of_a_layer(self) -> None:
        self.Run("train", "small.txtpb", "parallel.ranks=2", "train.eval_every=0", "traffic.every=4")
        operation, text = self.Matrix("run", "--operation=combine forward", "--steps=4-7")
        self.assertIn("the mean of steps 4 to 7, combine forward;", text)
        self.assertGreater(sum(operation), 0)
        outcome = self.Run("report", "run", "--matrix=m.txt", "--layer=1", code=2)
        self.assertIn("traffic.record=FULL", outcome.text)

    def test_summary_says_what_full_would_add(self) -> None:
        self.Run("train", "small.txtpb", "parallel.ranks=2", "train.eval_every=0")
        text = self.Run("report", "run").text
        self.assertIn("sums of steps", text)
        self.assertIn("traffic.record=FULL", text)
        for wrong in ("--jsonl=l.jsonl", "--trace=t.json"):
            outcome = self.Run("report", "run", wrong, code=2)
            self.assertIn("traffic.record=FULL", outcome.text)

    def test_mistakes_are_sentences(self) -> None:
        self.Run("train", "small.txtpb", "traffic.record=OFF", "train.steps=2", "train.eval_every=0")
        for arguments, said in ((["run"], "traffic.record=SUMMARY"), (["nowhere"], "no such folder"), ([], "a folder is missing"),
                                (["run", "--steps=7-5"], "--steps"), (["run", "--lane=up"], "--lane"), (["run", "--by=host"], "--by")):
            outcome = self.Run("report", *arguments, code=2)
            self.assertIn(said, outcome.text)
            for sign in SIGNS_OF_A_BUG:
                self.assertNotIn(sign, outcome.text)

    def test_another_version_and_a_torn_file(self) -> None:
        self.Record("parallel.ranks=2")
        path = self.Path("run/traffic/rank-00001.bin")
        with open(path, "rb") as file:
            data = file.read()
        with open(path, "wb") as file:
            file.write(data[:-7])
        text = self.Run("report", "run").text
        self.assertIn("torn", text)
        self.assertIn("steps 2 to 3", text)
        with open(path, "wb") as file:
            file.write(data.replace(b'"unipool_traffic":2', b'"unipool_traffic":8', 1))
        self.assertIn("format 8", self.Run("report", "run", code=2).text)

    def test_a_run_that_goes_on_and_one_that_was_killed(self) -> None:
        run = self.Start("train", "small.txtpb", "parallel.ranks=2", "train.steps=100000", "train.eval_every=0", "train.save_every=0",
                         "traffic.every=2")
        WaitUntil(lambda: bool(glob.glob(self.Path("run/traffic/window-*.json"))), "a window is written", 60)
        self.assertIn("the run has not ended", self.Run("report", "run").text)
        run.kill()
        run.wait()
        text = self.Run("report", "run").text
        self.assertIn("the run has not ended, or was killed", " ".join(text.split()))
        self.assertRegex(text, r"Verdict: [a-z-]+\n")

    def test_two_runs_beside_each_other(self) -> None:
        for run, ranks in (("a", 2), ("b", 2)):
            self.Record(f"parallel.ranks={ranks}", run_dir=run)
        text = self.Run("report", "a", "--compare=b", "--html=compared.html").text
        self.assertIn("wrote compared.html", text)
        self.assertGreater(len(self.Screen(self.Page("compared.html"), "compare")), 300)
        self.assertRegex(self.Run("report", "a", "--compare=b").text, r"(?m)^step +\d")

    @unittest.skipUnless(CHROMIUM, "no chromium: the page was not opened")
    def test_page_opens_in_a_browser_without_network(self) -> None:
        self.Write("cluster.txtpb", "ranks_per_node: 4\n")
        # One microbatch: while the pipeline drains its forward lane is idle, and while it fills its backward lane.
        for ranks, stages, more in ((1, 1, []), (2, 1, []), (4, 1, []), (4, 4, ["model.layers=4", "train.global_batch=1"]),
                                    (16, 2, ["model.layers=4", "train.global_batch=16", "parallel.emulate=cluster.txtpb"])):
            run = f"run{ranks}{stages}"
            self.Record(f"parallel.ranks={ranks}", f"parallel.stages={stages}", *more, run_dir=run)
            self.Run("report", run)
            assert CHROMIUM
            browser = subprocess.run(
                [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND",
                 "--enable-logging=stderr", "--v=0", f"--user-data-dir={self.Path('profile')}", "--dump-dom",
                 "file://" + self.Path(run, "traffic/report.html")], capture_output=True, timeout=120, check=False)
            seen, said = browser.stdout.decode(), browser.stderr.decode()
            self.assertNotIn("CONSOLE", said)
            self.assertIn("<html", seen)
            for screen in SCREENS:
                self.assertGreater(len(self.Screen(seen, screen)), 60, screen)
            if ranks > 1:  # the script has run: of several pieces one is shown
                self.assertIn('data-part="" hidden=""', seen)


if __name__ == "__main__":
    run_harness.Main(__doc__)
