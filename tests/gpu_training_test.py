#!/usr/bin/env python3
"""tools/gpu/gpu_training.py without a GPU: a program that plays the GPU's part by running the real one on the CPU, and plants a
mistake where a test asks for it; and the judgement of made-up metrics.

Usage: gpu_training_test.py SOURCE_DIR UNIPOOL
"""
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Sequence
from typing import Any

STEPS = 8
SIZES = ("model.layers=2 model.hidden=32 model.heads=4 model.kv_heads=2 model.seq_length=32 moe.width=32 moe.experts=8 "
         "train.global_batch=8 train.micro_batch=2 train.warmup_fraction=0 ")
# Runs `real` with what only a GPU has taken out. plant.json: which runs of the GPU to spoil, and how.
PLAYER = """#!{python}
import json, os, subprocess, sys, time
here, arguments = os.path.dirname(os.path.abspath(__file__)), sys.argv[1:]
path = os.path.join(here, "plant.json")
plant = json.load(open(path)) if os.path.exists(path) else {{}}
is_hit = bool(plant) and "device=" + plant.get("device", "CUDA") in arguments and plant["match"] in " ".join(arguments)
is_hit = is_hit and arguments[0] == "train"
if is_hit and plant["what"] == "crash":
    sys.exit("the kernel is on fire")
if is_hit and plant["what"] == "sleep":
    time.sleep(60)
own = [a for a in arguments if not a.startswith(("device=", "train.precision=", "parallel.transport="))]
run_dir = [a.partition("=")[2] for a in own if a.startswith("run_dir=")]
if is_hit and plant["what"] == "no memory":
    sys.exit("error: device CUDA: GPU 0 (Test) has no memory left: 1 MiB more were asked for")
if is_hit and plant["what"] == "forget" and os.path.isdir(run_dir[0] + "/checkpoints"):
    os.rename(run_dir[0] + "/checkpoints", run_dir[0] + "/gone")
status = subprocess.run(["{real}", *own]).returncode
if is_hit and plant["what"] == "stay":
    time.sleep(60)
rank = int(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))
what = plant.get("what")
if "device=CUDA" in arguments and what != "copy" and arguments[0] == "train" and rank == 0 and status == 0:
    path = run_dir[0] + "/metrics.jsonl"
    lines = [json.loads(line) for line in open(path)]
    for line in lines:
        if "loss" in line:
            line["loss"] *= 1 + 1e-7  # no other device has the CPU's bits
        if is_hit and what in ("loss", "peak_memory_bytes") and what in line and line["step"] >= plant["step"]:
            line[what] *= plant["factor"]
        if is_hit and what == "zero_score_share" and what in line:
            line[what] = 0.2
    with open(path, "w") as file:
        file.write("".join(json.dumps(line) + "\\n" for line in lines))
record = os.environ.get("UNIPOOL_TIMELINE")
if "device=CUDA" in arguments and arguments[0] == "train" and record:
    if is_hit and what == "no record":
        print("unipool timeline: CUPTI is out; nothing is recorded", file=sys.stderr)
        sys.exit(status)
    with open(record.replace("%p", str(os.getpid())), "w") as file:
        file.write("unipool-timeline\\t1\\t%d\\n" % os.getpid())
        names = ["_GLOBAL__N__01234567_17_row_order_cuda_cu_89abcdef", "product", "_GLOBAL__N__01234567_13_adamw_cuda_cu_89abcdef"]
        for name in range(3):
            file.write("N\\t%d\\t%s\\tkernel%d()\\n" % (name, names[name], name))
        time = 0
        for step in range(len(lines)):
            for name in range(3):
                file.write("K\\t0\\t1\\t13\\t%d\\t%d\\t%d\\n" % (time, time + 50000, name))
                time += 50000 + (25000 if name == 0 and is_hit and what == "gap" and step + 1 == plant["step"] else 5000)
        file.write("Q\\n" if is_hit and what == "broken record" else "E\\t0\\n")
    for injection in ("CUDA_INJECTION64_PATH", "NVTX_INJECTION64_PATH"):
        assert os.path.isfile(os.environ[injection])
sys.exit(status)
"""


class GpuTrainingTest(unittest.TestCase):
    root, real = ".", "unipool"

    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="unipool-gpu-training-test-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.program = self.Path("unipool")
        with open(self.program, "w", encoding="utf-8") as file:
            file.write(PLAYER.format(python=sys.executable, real=self.real))
        os.chmod(self.program, 0o755)
        with open(self.Path("text.txt"), "w", encoding="utf-8") as file:
            file.write(" ".join(random.choice("one two three four five six seven".split()) for _ in range(4000)))

    def Path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def Check(self, *arguments: str, plant: dict[str, Any] | None = None, prefix: Sequence[str] = ()) -> tuple[int, dict[str, tuple[str, str]]]:
        """(exit status, {check: (outcome, text)}) of a run of gpu_training.py."""
        if plant:
            with open(self.Path("plant.json"), "w", encoding="utf-8") as file:
                json.dump(plant, file)
        report = self.Path("report.md")
        if os.path.exists(report):
            os.remove(report)
        command = [*prefix, sys.executable, os.path.join(self.root, "tools/gpu/gpu_training.py"), "--program", self.program, "--configs",
                   os.path.join(self.root, "configs"), "--text", self.Path("text.txt"), "--report", report, "--steps", str(STEPS),
                   "--demo", SIZES, "--bench", SIZES + "train.precision=FP32 moe.router_constant=2", "--bench-steps", "6",
                   "--timeline", self.Path("text.txt"), "--trace", self.Path("trace.json.gz")]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=240, check=False)
        with open(report, encoding="utf-8") as file:
            parts = file.read().split("### ")[1:]
        self.assertNotIn("Traceback", done.stderr)
        checks = {part.split(":")[0]: (part.split("\n")[0].partition(": ")[2], part) for part in parts}
        return done.returncode, checks

    def test_on_the_cpu_in_both_parts_everything_passes(self) -> None:
        names = ["start", "bench", "timeline", "memory", "torch_same", "fp32", "bf16", "checkpoints", "ranks", "nccl"]
        status, checks = self.Check("--checks", ",".join(names))
        self.assertEqual(names, list(checks))
        for name, (outcome, text) in checks.items():
            self.assertEqual("not run" if name == "torch_same" else "passed", outcome, text)
        self.assertEqual(0, status)
        self.assertRegex(checks["fp32"][1], rf"largest relative difference 1.0e-07 at step \d of {STEPS} compared")
        self.assertRegex(checks["start"][1], rf"largest relative difference 1.0e-07 at step \d of {STEPS} compared")
        self.assertIn(f"of {STEPS // 2} compared", checks["checkpoints"][1])
        for layout in ("2 ranks", "4 ranks", "2 stages"):
            for transport in ("THREADS", "MPI") if shutil.which("mpirun") else ("THREADS",):
                self.assertIn(f"| {layout} on one GPU, {transport}, against one rank | passed |", checks["ranks"][1])
        self.assertIn("Aim: no gap above 20 us on the compute stream outside the count exchange: reached.", checks["timeline"][1])
        self.assertIn("Steps 3 to 6, 4 of 6 in the record", checks["timeline"][1])
        self.assertTrue(os.path.getsize(self.Path("trace.json.gz")) > 0)
        for name, run in (("start", "gpu-fp32"), ("bench", "bench-unipool-0"), ("bench", "bench-unipool-1"), ("timeline", "timeline")):
            self.assertRegex(checks[name][1], rf"until its first step began: .*{run} \d+\.\d s")
        self.assertNotIn("first step", checks["torch_same"][1])
        self.assertIn("PyTorch: not run", checks["bench"][1])
        self.assertRegex(checks["bench"][1], r"\| unipool \| \d+ \|")
        # 2 layers of (3072 of attention, 8 * 32 + 1 of the router, 3 * 32 * 32 of the expert), a head of 51200 rows, attention
        self.assertIn(f"{6 * (2 * (3072 + 257 + 3072 + 32 * 32) + 51200 * 32) / 1e9:.4f} GFLOP", checks["bench"][1])

    def test_the_first_step_is_timed_from_its_beginning(self) -> None:
        sys.path.insert(0, os.path.join(self.root, "tools/gpu"))
        from training_watch import FirstStep  # pylint: disable=import-outside-toplevel  its folder is known only now
        writer = ("import sys, time; time.sleep(0.6); file = open(sys.argv[1] + '/metrics.jsonl', 'a'); "
                  "file.write('{\"step\": 1, \"loss\": 1, \"step_seconds\": 0.2}\\n'); file.flush(); time.sleep(4)")
        for earlier_lines in ("", '{"step": 0, "loss": 1, "step_seconds": 0.1}\n'):
            with open(self.Path("metrics.jsonl"), "w", encoding="utf-8") as file:
                file.write(earlier_lines)
            first = FirstStep(self.folder)
            with first:
                subprocess.run([sys.executable, "-c", writer, self.folder], check=True)
            assert first.seconds is not None
            self.assertGreater(first.seconds, 0.35)
            self.assertLess(first.seconds, 4)  # not at the end of the run, also where the machine is slow to begin it
        nothing = FirstStep(self.Path("nothing"))
        with nothing:
            pass
        self.assertIsNone(nothing.seconds)

    def test_a_wrong_loss_is_found_where_it_begins(self) -> None:
        plant = {"match": "train.precision=FP32", "what": "loss", "step": 6, "factor": 1.001}
        status, checks = self.Check("--checks", "fp32,bf16,checkpoints", plant=plant)
        self.assertEqual(1, status)
        self.assertEqual("FAILED", checks["fp32"][0])
        self.assertIn("largest relative difference 1.0e-03 at step", checks["fp32"][1])
        self.assertIn("more than 1e-04 apart first at step 6", checks["fp32"][1])
        self.assertEqual("passed", checks["bf16"][0])
        self.assertEqual("FAILED", checks["checkpoints"][0])
        status, checks = self.Check("--checks", "fp32,bf16", plant={"match": "", "what": "copy"})
        self.assertEqual((1, "FAILED", "passed"), (status, checks["fp32"][0], checks["bf16"][0]))
        self.assertIn("nothing was computed elsewhere", checks["fp32"][1])

    def test_a_wrong_layout_a_wrong_continuation_and_wrong_memory_are_found(self) -> None:
        status, checks = self.Check("--checks", "ranks,nccl", "--mpirun", "", plant={
            "match": "parallel.stages=2", "what": "loss", "step": 1, "factor": 0.999})
        self.assertEqual((1, "FAILED", "passed"), (status, checks["ranks"][0], checks["nccl"][0]))
        self.assertIn("| 2 stages on one GPU, THREADS, against one rank | FAILED |", checks["ranks"][1])
        self.assertIn("| 4 ranks on one GPU, THREADS, against one rank | passed |", checks["ranks"][1])
        status, checks = self.Check("--checks", "checkpoints,memory", plant={"match": "cpu-then-gpu", "what": "forget"})
        self.assertEqual((1, "FAILED", "passed"), (status, checks["checkpoints"][0], checks["memory"][0]))
        self.assertIn("cpu-then-gpu began at step 1, not after the checkpoint of step 4", checks["checkpoints"][1])
        status, checks = self.Check("--checks", "memory", plant={
            "match": "train.precision=BF16", "what": "peak_memory_bytes", "step": 1, "factor": 1.2})
        self.assertEqual((1, "FAILED"), (status, checks["memory"][0]))

    def test_what_the_gpu_does_does_not_wait_for_the_end_of_the_cpus_run(self) -> None:
        """The CPU has made its steps, and its run does not end."""
        plant = {"device": "CPU", "match": "/cpu", "what": "stay"}
        status, checks = self.Check("--checks", "start,timeline,fp32", "--limit", "25", plant=plant)
        self.assertEqual((1, "passed", "passed", "FAILED, not finished in 25 s"), (status, *[outcome for outcome, _ in checks.values()]))
        self.assertIn(f"cpu is still under way, at step {STEPS}", checks["fp32"][1])
        plant = {"match": "train.precision=FP32", "what": "loss", "step": 6, "factor": 1.001}
        status, checks = self.Check("--checks", "start", plant=plant)
        self.assertEqual((1, "FAILED"), (status, checks["start"][0]))
        self.assertIn("more than 1e-04 apart first at step 6", checks["start"][1])

    def Sweep(self, *arguments: str, plant: dict[str, Any] | None = None, prefix: Sequence[str] = ()) -> tuple[int, str, list[list[str]]]:
        """(exit status, report, rows of the sweep)"""
        small = SIZES + "train.precision=FP32 model.vocab=256 model.vocab_multiple=1 model.seq_length=8 moe.router_constant=2"
        status, _ = self.Check("--checks", "sweep", "--bench", small, *arguments, plant=plant, prefix=prefix)
        with open(self.Path("report.md"), encoding="utf-8") as file:
            report = file.read()
        rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in report.split("\n") if line.startswith("| ")]
        return status, report, rows[2:]

    def test_a_sweep_of_sizes(self) -> None:
        status, report, rows = self.Sweep()
        self.assertEqual(0, status, report)
        self.assertEqual([["64", "12"], ["16", "4"], ["32", "8"]], [row[:2] for row in rows[:3]])
        self.assertEqual(9, len({tuple(row[:2]) for row in rows}))
        for row in rows:
            self.assertGreater(int(row[2]), 0)
            self.assertRegex(row[5], r"^\d+\.\d+ [GM]B$")
        best = max(rows, key=lambda row: int(row[2]))
        self.assertIn(f"### sweep: passed\n\nFastest: micro_batch {best[0]}, {best[1]} slots, {best[2]} tokens/s", report)

    def test_rows_of_a_sweep_stand_where_it_ends_early(self) -> None:
        plant = {"match": "train.micro_batch=32 train.weight_grad_slots=8", "what": "sleep"}  # the third row
        for prefix, limit, outcome in (([], ["--total-limit", "25"], "all that was left"), (["timeout", "-s", "KILL", "25"], [], "")):
            status, report, rows = self.Sweep(*limit, plant=plant, prefix=prefix)
            self.assertIn(status, [0] if limit else [-9, 137], report)
            self.assertEqual([["64", "12"], ["16", "4"]], [row[:2] for row in rows])
            self.assertIn(outcome, report)
            self.assertEqual(bool(limit), "Not measured, as (micro_batch, slots): (32, 8), (64, 4)" in report)

    def test_sizes_without_memory_are_no_failure_of_a_sweep_and_others_are(self) -> None:
        plant = {"match": "train.micro_batch=64", "what": "no memory"}
        status, report, rows = self.Sweep(plant=plant)
        self.assertEqual((0, 9, 3), (status, len(rows), [row[2] for row in rows].count("no memory")), report)
        self.assertIn("(64, 8): sweep-64-8: exit status 1", report)
        status, report, rows = self.Sweep(plant={**plant, "what": "crash"})
        self.assertEqual((1, 9, 3), (status, len(rows), [row[2] for row in rows].count("FAILED")), report)

    def test_tokens_that_no_expert_saw_are_no_speed(self) -> None:
        status, checks = self.Check("--checks", "bench", plant={"match": "", "what": "zero_score_share"})
        self.assertEqual((1, "FAILED"), (status, checks["bench"][0]))
        self.assertIn("INVALID, 20.0 % of the choices of a timed step had no positive score", checks["bench"][1])

    def test_a_time_line_tells_gaps_and_fails_only_where_nothing_can_be_told(self) -> None:
        status, checks = self.Check("--checks", "timeline")
        self.assertEqual((0, "passed"), (status, checks["timeline"][0]))
        status, checks = self.Check("--checks", "timeline", plant={"match": "", "what": "gap", "step": 4})
        self.assertEqual((0, "passed"), (status, checks["timeline"][0]), "an aim that is missed is no failure")
        self.assertIn("MISSED, 1 in 4 steps, 0.025 ms,", checks["timeline"][1])
        self.assertIn("| `row_order kernel0` | `kernel1` | other | between steps | 1 | 0.025 ms | 25.0 us |", checks["timeline"][1])
        status, checks = self.Check("--checks", "timeline", plant={"match": "", "what": "no record"})
        self.assertEqual((0, "not run"), (status, checks["timeline"][0]))
        self.assertIn("CUPTI is out", checks["timeline"][1])
        status, checks = self.Check("--checks", "timeline", "--timeline", "/nowhere")
        self.assertEqual((0, "not run"), (status, checks["timeline"][0]))
        for plant, expected in (("broken record", "is no record"), ("crash", "the kernel is on fire")):
            status, checks = self.Check("--checks", "timeline", plant={"match": "", "what": plant})
            self.assertEqual((1, "FAILED"), (status, checks["timeline"][0]))
            self.assertIn(expected, checks["timeline"][1])

    def test_what_breaks_or_hangs_does_not_stop_the_rest(self) -> None:
        status, checks = self.Check("--checks", "fp32,bf16,checkpoints,nccl", plant={"match": "gpu-bf16", "what": "crash"})
        self.assertEqual(1, status)
        self.assertEqual(["passed", "FAILED", "passed", "passed"], [outcome for outcome, _ in checks.values()])
        self.assertIn("the kernel is on fire", checks["bf16"][1])
        status, checks = self.Check("--checks", "nccl,fp32", "--limit", "8", plant={"match": "=NCCL", "what": "sleep"})
        self.assertEqual((1, "FAILED, not finished in 8 s", "passed"), (status, checks["nccl"][0], checks["fp32"][0]))

    def test_a_total_limit_cuts_checks_and_is_no_failure(self) -> None:
        plant = {"match": "=NCCL", "what": "sleep"}
        status, checks = self.Check("--checks", "nccl,fp32", "--total-limit", "5", plant=plant)
        self.assertEqual(0, status)
        self.assertRegex(checks["nccl"][0], r"not finished in \d s, all that was left")
        self.assertEqual("not run, the total limit is used up", checks["fp32"][0])

    def test_a_bench_that_the_total_limit_cuts_tells_its_first_run(self) -> None:
        status, checks = self.Check("--checks", "bench", "--total-limit", "30", plant={"match": "bench-unipool-1", "what": "sleep"})
        self.assertEqual(0, status)
        self.assertIn("all that was left", checks["bench"][0])
        self.assertIn("each run", checks["bench"][1])

    def test_the_bench_tells_its_first_run_when_it_is_ended(self) -> None:
        plant = {"match": "bench-unipool-1", "what": "sleep"}  # the second run
        _, checks = self.Check("--checks", "bench", plant=plant, prefix=["timeout", "-s", "TERM", "30"])
        self.assertIn("not finished", checks["bench"][0])
        self.assertIn("each run", checks["bench"][1])


class JudgementTest(unittest.TestCase):
    """Made-up metrics."""

    def Steps(self, losses: list[Any]) -> dict[int, dict[str, Any]]:
        return {step + 1: {"step": step + 1, "loss": loss, "tokens_per_second": 10.0 * step} for step, loss in enumerate(losses)}

    def test_losses(self) -> None:
        from training_judgement import CompareLosses, Failed
        reference = self.Steps([4.0, 3.0, 2.0, 1.0])
        self.assertTrue(CompareLosses(reference, self.Steps([4.0, 3.0, 2.0001, 1.0]), range(1, 5), 1e-4).passed)
        result = CompareLosses(reference, self.Steps([4.0, 3.003, 2.0, 0.99]), range(1, 5), 1e-4)
        self.assertEqual((False, 2, 4), (result.passed, result.first_apart, result.largest_at))
        for broken in ([4.0, 3.0, None, 1.0], [4.0, 3.0, float("nan"), 1.0], [4.0, 3.0, float("inf"), 1.0]):
            result = CompareLosses(reference, self.Steps(broken), range(1, 5), 1e-4)
            self.assertEqual((False, 3), (result.passed, result.first_apart))
        with self.assertRaises(Failed):
            CompareLosses(reference, self.Steps([4.0, 3.0, 2.0]), range(1, 5), 1e-4)
        with self.assertRaises(Failed):
            CompareLosses(reference, reference, [], 1e-4)
        still = self.Steps([4.0, 4.0, 4.0, 4.0])
        self.assertFalse(CompareLosses(still, still, range(1, 5), 1e-4).passed, "losses that do not move prove nothing")

    def test_a_bound_grows_with_what_rounding_does_and_not_with_a_defect(self) -> None:
        from training_judgement import CompareLosses
        reference = self.Steps([4.0 - step / 100 for step in range(200)])

        def differs(by: float, at: int) -> bool:
            run = {step: {**line, "loss": line["loss"] * (1 + (by if step == at else 1e-7))} for step, line in reference.items()}
            return not CompareLosses(reference, run, range(1, 201), 1e-4).passed

        self.assertEqual([True, True, False, False, True, True],
                         [differs(3e-4, 1), differs(3e-4, 25), differs(3e-4, 90), differs(1.5e-2, 200), differs(1.5e-2, 150),
                          differs(2.5e-2, 200)])
        run = {step: {**line, "loss": line["loss"] * (1 + 3e-7 * step)} for step, line in reference.items()}
        self.assertIn("more than 1e-05 apart first at step 34", str(CompareLosses(reference, run, range(1, 201), 1e-4)))
        # What is compared from a checkpoint on drifts from there.
        run = {step: {**line, "loss": line["loss"] * 1.0003} for step, line in reference.items()}
        self.assertFalse(CompareLosses(reference, run, range(101, 201), 1e-4).passed)
        apart = CompareLosses(reference, {**reference, 150: {**reference[150], "loss": 9.0}}, range(1, 201), 1e-4)
        self.assertIn("more than 4e-03 apart first at step 150", str(apart))
        self.assertFalse(CompareLosses(reference, {**reference, 150: {**reference[150], "loss": 2.6}}, range(1, 201), 2e-2).passed)

    def test_metrics_files(self) -> None:
        from training_judgement import Failed, ReadSteps
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "metrics.jsonl")
            for text in ("", '{"step":1,"loss":4}\n{"step":1,"loss":3}\n', '{"step":1,"lo', '{"step":1,"valid_loss":4}\n'):
                with open(path, "w", encoding="utf-8") as file:
                    file.write(text)
                with self.assertRaises(Failed, msg=text):
                    ReadSteps(path)
            with self.assertRaises(Failed):
                ReadSteps(os.path.join(folder, "none"))

    def test_memory_and_speed(self) -> None:
        from training_judgement import DensePeak, Failed, MemoryDeviation, TokensPerSecond
        self.assertEqual([True, True, False, False], [MemoryDeviation(m, 1000)[1] for m in (905, 1095, 895, 1105)])
        with self.assertRaises(Failed):
            MemoryDeviation(0, 1000)
        self.assertEqual(30.0, TokensPerSecond(self.Steps([1.0] * 5), 2))  # of 20, 30, 40
        with self.assertRaises(Failed):
            TokensPerSecond(self.Steps([1.0] * 2), 2)
        self.assertEqual((989, None), (DensePeak("NVIDIA H200"), DensePeak("Test GPU 9")))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    GpuTrainingTest.real = os.path.abspath(sys.argv.pop(2))
    GpuTrainingTest.root = os.path.abspath(sys.argv.pop(1))
    sys.path.insert(0, os.path.join(GpuTrainingTest.root, "tools/gpu"))
    sys.dont_write_bytecode = True
    unittest.main()
