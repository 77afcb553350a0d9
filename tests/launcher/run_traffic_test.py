#!/usr/bin/env python3
"""What a run records of its exchanges: exact bytes, in every mode the same losses, and no harm whatever becomes of the
files."""
import glob
import json
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from typing import Any

import run_harness
from run_harness import SIGNS_OF_A_BUG, RunTest

QUIET = ["train.eval_every=0", "train.save_every=0", "moe.router=SOFTMAX", "moe.router_constant=0"]  # this router leaves no choice out
LAYERS, HIDDEN, TOKENS, TOP_K = 3, 32, 12 * 16, 1

EXCHANGE = struct.Struct("<IHHII qq ii iiiiii ii q qqqq qqq qqqq iI II")
FIELDS = ("bytes kind flags check reserved step sequence communicator operation slot_time slot_index lane stage layer microbatch "
          "under_way cause bytes_self start_ns start_done_ns wait_enter_ns wait_leave_ns idle_ns idle_receiver_ns wire_ns "
          "device_begin_ns device_end_ns device_blocked_begin_ns device_blocked_end_ns num_peers row_bytes dropped_before "
          "reserved2").split()


def ReadRecords(path: str) -> dict[str, Any]:
    """A rank's file, by what runtime/TRAFFIC.md and traffic_record.h say of it: header, names, exchanges, steps."""
    with open(path, "rb") as file:
        data = file.read()
    end = data.index(b"\n") + 1
    result: dict[str, Any] = {"header": json.loads(data[:end]), "operations": {}, "communicators": {}, "exchanges": [],
                              "steps": [], "clocks": []}
    at = end
    while at + 16 <= len(data):
        size, kind = struct.unpack_from("<IH", data, at)
        if size < 16 or at + size > len(data):
            break
        if kind == 1:
            record = dict(zip(FIELDS, EXCHANGE.unpack_from(data, at)))
            record["peers"] = [struct.unpack_from("<iiqq", data, at + EXCHANGE.size + 24 * i)
                               for i in range(record["num_peers"])]
            result["exchanges"].append(record)
        elif kind == 2:
            table, index, length, _ = struct.unpack_from("<iiii", data, at + 16)
            text = data[at + 32:at + 32 + length].decode()
            result["communicators" if table else "operations"][index] = json.loads(text) if table else text
        elif kind == 3:
            result["steps"].append(struct.unpack_from("<qqqqqqqq", data, at + 16))
        elif kind == 4:
            result["clocks"].append(struct.unpack_from("<qqqii", data, at + 16))
        at += size
    result["cut"] = len(data) - at
    return result


class TrafficTest(RunTest):
    def Manifest(self, run_dir: str = "run") -> dict[str, Any]:
        with open(self.Path(run_dir, "traffic", "manifest.json")) as file:
            manifest: dict[str, Any] = json.load(file)
        return manifest

    def Windows(self, run_dir: str = "run") -> list[dict[str, Any]]:
        windows = []
        for name in self.Manifest(run_dir)["windows"]:
            with open(self.Path(run_dir, "traffic", name)) as file:
                windows.append(json.load(file))
        return windows

    def Matrix(self, run_dir: str, operations: list[str] | None = None) -> list[list[int]]:
        """Bytes from rank to rank over all windows."""
        total: list[list[int]] = []
        for window in self.Windows(run_dir):
            for matrix in window["matrices"]:
                if operations is not None and matrix["operation"] not in operations:
                    continue
                total = total or [[0] * len(matrix["bytes"]) for _ in matrix["bytes"]]
                for i, row in enumerate(matrix["bytes"]):
                    for j, number in enumerate(row):
                        total[i][j] += number
        return total

    def Losses(self, run_dir: str) -> list[Any]:
        return [(line["loss"], line["grad_norm"], line["pool_loss"]) for line in self.Steps(run_dir)]

    def test_windows_hold_exact_bytes_in_both_worlds(self) -> None:
        for name, mpi in [("threads", 0), ("mpi", 4)]:
            self.Train(f"run_dir={name}", "parallel.ranks=4", "traffic.every=5", *QUIET, mpi=mpi)
            manifest = self.Manifest(name)
            self.assertEqual(manifest["windows"], ["window-0-4.json", "window-5-9.json", "window-10-11.json"])
            self.assertTrue(manifest["ended"])
            self.assertEqual(manifest["dropped"], 0)
            self.assertEqual(manifest["world"], 4)
            self.assertEqual(manifest["node_of_rank"], [0] * 4)
            self.assertEqual(manifest["model"]["row_bytes"], HIDDEN * 4)
            self.assertEqual(manifest["recorded_steps"], [])
            for way in ["dispatch forward", "combine forward", "dispatch backward", "combine backward"]:
                matrix = self.Matrix(name, [way])
                self.assertEqual(sum(map(sum, matrix)), 12 * TOKENS * TOP_K * HIDDEN * 4 * LAYERS, way)
            self.assertEqual(glob.glob(self.Path(name, "traffic", "rank-*")), [])
            windows = self.Windows(name)
            self.assertEqual([w["split_steps"] for w in windows], [5, 5, 2] if name == "threads" else [1, 1, 1])
            for window in windows:
                ranks = window["ranks"]
                for rank in range(4):
                    self.assertLessEqual(ranks["blocked_ns"][rank], ranks["step_ns"][rank])
                    if window["split_steps"]:
                        parts = [ranks[key][rank] for key in ["idle_ns", "idle_receiver_ns", "exposed_ns"]]
                        self.assertEqual(sum(parts), ranks["split_blocked_ns"][rank])
                    else:
                        self.assertIsNone(ranks["idle_ns"][rank])
                self.assertEqual(sum(ranks["wire_bytes"]), sum(ranks["received_bytes"]))
            for window in windows:
                for layer in window["expert_rows"]["layers"]:
                    self.assertEqual(layer["rows"], window["steps"] * TOKENS * TOP_K)
                    self.assertEqual(layer["choosable"], 7)
                    self.assertEqual(sum(rows for _, rows in layer["most"]), layer["rows"])
                self.assertEqual(len(window["expert_rows"]["layers"]), LAYERS)
                self.assertEqual(sorted(set(window["expert_rows"]["owner"])), [0, 1, 2, 3])
            for step in self.Steps(name):
                self.assertGreater(step["wire_bytes"], 0)
                self.assertEqual(step["wire_bytes_inter"], 0)
                self.assertGreaterEqual(step["receive_imbalance"], 1)
                self.assertEqual("idle_ms" in step, name == "threads" or step["step"] in (5, 10, 12))
                self.assertIn("blocked_ms", step)
                if "idle_ms" in step:  # by construction; each is rounded on its own
                    self.assertAlmostEqual(step["idle_ms"] + step["exposed_ms"], step["blocked_ms"], delta=1e-5 * step["blocked_ms"])
        self.assertEqual(self.Matrix("threads"), self.Matrix("mpi"))
        imbalance = [[line["receive_imbalance"] for line in self.Steps(name)] for name in ["threads", "mpi"]]
        self.assertEqual(*imbalance)

    def test_bytes_do_not_depend_on_what_carries_them(self) -> None:
        """Threads, processes and an emulated cluster, with one stage and with two: the same bytes in every operation, and the same
        rows of experts."""
        self.Write("cluster.txtpb", "ranks_per_node: 2\n")
        for stages in (1, 2):
            matrices: dict[str, dict[tuple[str, str], list[list[int]]]] = {}
            rows: dict[str, list[Any]] = {}
            for name, mpi, settings in (("threads", 0, []), ("mpi", 4, []), ("emulated", 0, ["parallel.emulate=cluster.txtpb"])):
                run = f"{name}{stages}"
                self.Train(f"run_dir={run}", "parallel.ranks=4", f"parallel.stages={stages}", "traffic.every=12", *QUIET, *settings,
                           mpi=mpi)
                window, = self.Windows(run)
                matrices[name] = {(m["communicator"], m["operation"]): m["bytes"] for m in window["matrices"]}
                rows[name] = window["expert_rows"]["layers"]
            self.assertIn(("pool", "dispatch forward"), matrices["threads"])
            self.assertEqual(matrices["threads"], matrices["mpi"])
            self.assertEqual(matrices["threads"], matrices["emulated"])
            self.assertEqual(rows["threads"], rows["mpi"])
            self.assertEqual(rows["threads"], rows["emulated"])

    def test_losses_are_the_same_in_every_mode(self) -> None:
        for mpi in [0, 2]:
            for mode in ["OFF", "SUMMARY", "FULL"]:
                self.Train(f"run_dir={mode}-{mpi}", "parallel.ranks=2", "parallel.stages=2", f"traffic.record={mode}",
                           "traffic.first_step=1", "traffic.every=4", *QUIET, mpi=mpi)
            self.assertEqual(self.Losses(f"OFF-{mpi}"), self.Losses(f"SUMMARY-{mpi}"))
            self.assertEqual(self.Losses(f"OFF-{mpi}"), self.Losses(f"FULL-{mpi}"))
            self.assertFalse(os.path.exists(self.Path(f"OFF-{mpi}", "traffic")))
            self.assertNotIn("wire_bytes", self.Steps(f"OFF-{mpi}")[0])

    def test_single_exchanges_join_between_ranks(self) -> None:
        self.Train("traffic.record=FULL", "traffic.first_step=2", "traffic.num_steps=3", "traffic.every=4", *QUIET, mpi=3)
        self.assertEqual(self.Manifest()["recorded_steps"], [[2, 4]])
        files = [ReadRecords(self.Path("run", "traffic", f"rank-{rank:05d}.bin")) for rank in range(3)]
        sent: dict[Any, int] = {}
        got: dict[Any, int] = {}
        for rank, file in enumerate(files):
            self.assertEqual(file["cut"], 0)
            self.assertEqual((file["header"]["unipool_traffic"], file["header"]["rank"]), (2, rank))
            self.assertEqual([step[0] for step in file["steps"]], [2, 3, 4])
            for step in file["steps"]:
                self.assertEqual(step[4], 0, "dropped")
                exchanges = [x for x in file["exchanges"] if x["step"] == step[0]]
                self.assertEqual(len(exchanges), step[3])
                blocked = sum(x["wait_leave_ns"] - x["wait_enter_ns"] for x in exchanges)
                self.assertLess(blocked, step[2] - step[1])
            for x in file["exchanges"]:
                group = file["communicators"][x["communicator"]]
                self.assertEqual(group["carrier"], "MPI")
                self.assertTrue(x["start_ns"] <= x["start_done_ns"] <= x["wait_enter_ns"] <= x["wait_leave_ns"])
                for peer, _, to, came in x["peers"]:
                    other = group["members"][peer]
                    key = (group["name"], tuple(group["members"]), x["sequence"])
                    sent[(*key, rank, other)] = to
                    got[(*key, other, rank)] = came
                if file["operations"][x["operation"]].startswith(("dispatch", "combine")):
                    self.assertEqual(x["row_bytes"], HIDDEN * 4)
                    self.assertIn(x["layer"], range(LAYERS))
                    self.assertEqual(x["lane"], int("backward" in file["operations"][x["operation"]]))
        self.assertGreater(len(sent), 100)
        self.assertEqual(sent, got)

    def test_clocks_that_differ_are_compared(self) -> None:
        # Rank 1's clock is seconds off and drifts, as if it lived on another host.
        seconds, ppm = 2.5, 50
        for mpi in [0, 2]:
            run = f"clock-{mpi}"
            outcome = self.Finish(self.Start("train", "small.txtpb", f"run_dir={run}", "parallel.ranks=2", "traffic.every=4",
                                             *QUIET, mpi=mpi, environment={"UNIPOOL_TEST_CLOCK": f"1:{seconds}:{ppm}"}))
            self.assertEqual(outcome.code, 0, outcome)
            manifest = self.Manifest(run)
            self.assertNotEqual(*manifest["boot_id_of_rank"])
            comparisons = manifest["clock"]["comparisons"]
            self.assertEqual([x["num_probes"] for x in comparisons], [100, 30, 30, 30])
            for x in comparisons:
                self.assertEqual((x["rank"], x["reference"]), (1, 0))
                true = x["own_ns"] / (1 + 1e-6 * ppm) - 1e9 * seconds
                self.assertLessEqual(abs(x["own_ns"] + x["offset_ns"] - true), x["uncertainty_ns"] + 2000)
                self.assertGreater(x["uncertainty_ns"], 0)
            for window in self.Windows(run):
                self.assertEqual(window["split_steps"], 1)
                for rank in range(2):  # uncorrected, all of one rank's time would be idle time, and none of the other's
                    parts = [window["ranks"][key][rank] for key in ["idle_ns", "idle_receiver_ns", "exposed_ns"]]
                    self.assertEqual(sum(parts), window["ranks"]["split_blocked_ns"][rank])
                    self.assertGreater(parts[2], 0)
                self.assertGreater(sum(window["ranks"]["idle_ns"]), 0)

    def test_a_trigger_file_records_steps_of_a_live_run(self) -> None:
        process = self.Start("train", "small.txtpb", "train.steps=100000", "train.lr_schedule=CONSTANT", "parallel.ranks=2",
                             "traffic.every=10", *QUIET)
        manifest = self.Path("run", "traffic", "manifest.json")
        self.WaitUntil(lambda: os.path.exists(manifest))
        self.Write("run/traffic/record", "2\n")
        self.WaitUntil(lambda: self.Manifest()["recorded_steps"] != [])
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
        (first, last), = self.Manifest()["recorded_steps"]
        self.assertEqual(last, first + 1)
        self.assertFalse(os.path.exists(self.Path("run", "traffic", "record")))
        file = ReadRecords(self.Path("run", "traffic", "rank-00001.bin"))
        self.assertEqual({x["step"] for x in file["exchanges"]}, {first, last})

    def test_a_trigger_file_records_steps_of_a_run_that_records_nothing(self) -> None:
        for mpi in [0, 2]:
            run = f"off-{mpi}"
            process = self.Start("train", "small.txtpb", f"run_dir={run}", "train.steps=100000", "train.lr_schedule=CONSTANT",
                                 "parallel.ranks=2", "traffic.record=OFF", *QUIET, mpi=mpi)
            self.WaitUntil(lambda: os.path.exists(self.Path(run, "metrics.jsonl")) and len(self.Steps(run)) > 2)
            os.makedirs(self.Path(run, "traffic"))
            for n in [1, 2]:
                self.Write(f"{run}/traffic/record", f"{n + 1}\n")
                self.WaitUntil(lambda: os.path.exists(self.Path(run, "traffic", "manifest.json")))
                self.WaitUntil(lambda: len(self.Manifest(run)["recorded_steps"]) == n)
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
            steps = self.Manifest(run)["recorded_steps"]
            self.assertEqual([last - first + 1 for first, last in steps], [2, 3])
            self.assertEqual(self.Manifest(run)["windows"], [f"window-{first}-{last}.json" for first, last in steps])
            self.assertEqual(self.Manifest(run)["dropped"], 0)
            self.assertNotIn("wire_bytes", self.Steps(run)[0])
            text = self.Run("report", run, "--text", f"--html={run}.html").text
            self.assertIn("records of every exchange", text)
            self.assertRegex(text, r"Verdict: [a-z-]+\n")

    def WaitUntil(self, condition: Any) -> None:
        for _ in range(600):
            if condition():
                return
            time.sleep(0.1)
        self.fail("it did not come")

    def test_a_killed_run_leaves_readable_files(self) -> None:
        process = self.Start("train", "small.txtpb", "train.steps=100000", "train.lr_schedule=CONSTANT", "parallel.ranks=2",
                             "traffic.record=FULL", "traffic.first_step=0", "traffic.num_steps=1000", "traffic.every=5",
                             "traffic.max_megabytes=1000", *QUIET)
        path = self.Path("run", "traffic", "rank-00000.bin")
        self.WaitUntil(lambda: os.path.exists(path) and os.path.getsize(path) > 200_000 and len(self.Manifest()["windows"]) > 1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.assertFalse(self.Manifest()["ended"])
        self.assertGreater(len(self.Windows()), 1)
        for rank in range(2):
            file = ReadRecords(self.Path("run", "traffic", f"rank-{rank:05d}.bin"))
            self.assertGreater(len(file["exchanges"]), 100)

    def test_a_folder_that_goes_does_no_harm(self) -> None:
        process = self.Start("train", "small.txtpb", "train.steps=100000", "train.lr_schedule=CONSTANT", "parallel.ranks=2",
                             "traffic.record=FULL", "traffic.first_step=0", "traffic.num_steps=1000", "traffic.every=5",
                             "traffic.max_megabytes=1000", *QUIET)
        self.WaitUntil(lambda: os.path.exists(self.Path("run", "traffic", "window-0-4.json")))
        shutil.rmtree(self.Path("run", "traffic"), ignore_errors=True)
        before = len(self.Steps("run"))
        self.WaitUntil(lambda: len(self.Steps("run")) > before + 12)
        process.send_signal(signal.SIGTERM)
        stdout, stderr = process.communicate(timeout=60)
        text = (stdout + stderr).decode()
        self.assertEqual(process.returncode, 75, text)
        self.assertLessEqual(text.count("records of traffic are not written"), 1)
        for sign in SIGNS_OF_A_BUG:
            self.assertNotIn(sign, text)

    def test_what_cannot_be_written_is_told_once(self) -> None:
        os.makedirs(self.Path("run"))
        self.Write("run/traffic", "a file stands where the folder should be")
        for mpi in [0, 2]:
            outcome = self.Train("parallel.ranks=2", "traffic.record=FULL", "traffic.first_step=0", "traffic.every=3",
                                 "--anew", *QUIET, mpi=mpi)
            self.assertEqual(outcome.text.count("records of traffic are not written any longer"), 1, outcome)
            self.assertIn("the run goes on", outcome.text)
            self.assertIn("wire_bytes", self.Steps("run")[0])

    def test_a_full_disk_is_told_once(self) -> None:
        disk = tempfile.mkdtemp(prefix="unipool-disk-")
        self.addCleanup(shutil.rmtree, disk, ignore_errors=True)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True).returncode != 0:
            self.skipTest("no small disk can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", disk], check=True)
        os.makedirs(self.Path("run"))
        os.symlink(disk, self.Path("run", "traffic"))
        outcome = self.Train("parallel.ranks=2", "traffic.record=FULL", "traffic.first_step=0", "traffic.num_steps=12",
                             "traffic.every=3", *QUIET)
        self.assertEqual(outcome.text.count("records of traffic are not written any longer"), 1, outcome)
        self.assertIn("No space left", outcome.text)
        self.assertEqual(len(self.Steps("run")), 12)
        report = " ".join(self.Run("report", "run", "--text", "--html=page.html").text.split())
        self.assertIn("records end before the run does:", report)
        self.assertRegex(report, r"rank-\d+.bin: cannot be written \(No space left on device\); step \d+ and later ones are not here")
        self.assertNotIn("torn", report)
        self.assertTrue(self.Manifest()["ended"])

    def test_too_many_records_are_refused_before_the_run(self) -> None:
        outcome = self.Train("run_dir=none", "parallel.ranks=2", "traffic.record=FULL", "traffic.max_megabytes=0.01", code=2)
        for word in ["traffic.record=FULL", "exchanges", "MB", "traffic.max_megabytes", "SUMMARY"]:
            self.assertIn(word, outcome.text)
        self.assertFalse(os.path.exists(self.Path("none")))

    def test_a_new_start_keeps_what_was_recorded(self) -> None:
        self.Train("parallel.ranks=2", "train.steps=4", "traffic.every=2", "train.save_every=4", "train.eval_every=0")
        self.Train("parallel.ranks=2", "train.steps=8", "traffic.every=2", "train.save_every=4", "train.eval_every=0")
        self.assertEqual(self.Manifest()["windows"], ["window-4-5.json", "window-6-7.json"])
        with open(self.Path("run", "traffic", "before-1", "manifest.json")) as file:
            self.assertEqual(json.load(file)["windows"], ["window-0-1.json", "window-2-3.json"])


if __name__ == "__main__":
    run_harness.Main(__doc__)
