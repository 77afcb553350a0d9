#!/usr/bin/env python3
"""The program trains: alike in every way to start it, and on from where it stood, whatever interrupted it."""
import os
import signal
import subprocess
import unittest
from collections.abc import Callable

import run_harness
from run_harness import RanksOf, RunTest, WaitUntil


class TrainTest(RunTest):
    def CheckMetrics(self, run_dir: str) -> None:
        lines = self.Metrics(run_dir)
        self.assertEqual([line["step"] for line in lines if "loss" in line], list(range(1, 13)))
        self.assertEqual([line["step"] for line in lines if "valid_loss" in line], [6, 12])
        in_every_step = {metric["name"] for metric in self.MetricList() if metric["lines"] == "every step"}
        self.assertIn("loss", in_every_step)
        for line in self.Steps(run_dir):
            self.assertLessEqual(in_every_step, line.keys())
            self.assertEqual(line["tokens"], line["step"] * 12 * 16)
            self.assertGreater(line["tokens_per_second"], 0)
            self.assertGreater(line["grad_norm"], 0)
            self.assertEqual(line["pool_loss"] > 0, line["step"] > 1)
        self.assertLess(lines[-1]["valid_loss"], lines[0]["loss"] - 0.3, "nothing was learned")

    def test_every_way_to_start_gives_the_same_losses(self) -> None:
        ways: dict[str, tuple[list[str], int]] = {"run": ([], 0), "threads": (["parallel.ranks=4"], 0), "mpi": ([], 3)}
        for run_dir, (overrides, mpi) in ways.items():
            outcome = self.Train(f"run_dir={run_dir}", *overrides, mpi=mpi)
            self.CheckMetrics(run_dir)
            for step in (1, 12):
                self.assertEqual(outcome.text.count(f"step {step}/12 "), 1, outcome)
            self.assertTrue(os.path.isfile(self.Path(run_dir, "config.txtpb")))
            self.assertEqual(sorted(os.listdir(self.Path(run_dir, "checkpoints"))), ["step-12", "step-6"])
            self.AssertLossesClose(run_dir, "run")
            self.assertAlmostEqual(self.ValidLosses(run_dir)[12], self.ValidLosses("run")[12], delta=1e-5)

    def test_the_file_of_settings_that_a_run_leaves_repeats_it(self) -> None:
        self.Train("train.seed=9", "moe.top_k=2")
        self.Run("train", "run/config.txtpb", "run_dir=again")
        self.assertEqual(self.Results("again"), self.Results("run"))

    def test_bf16_products_learn_alike_and_a_run_goes_on_in_either_precision(self) -> None:
        self.Train("run_dir=exact")
        outcome = self.Train("run_dir=rounded", "train.precision=BF16")
        self.assertEqual(outcome.text.count("products of BF16 numbers: "), 1, outcome)
        self.CheckMetrics("rounded")
        exact, rounded = self.ValidLosses("exact"), self.ValidLosses("rounded")
        self.assertNotEqual(rounded[12], exact[12])
        self.assertAlmostEqual(rounded[12], exact[12], delta=0.05)
        self.Train("run_dir=again", "train.precision=BF16")
        self.assertEqual(self.Results("again"), self.Results("rounded"))
        for run_dir, precision in (("rounded", "FP32"), ("exact", "BF16")):
            self.Train(f"run_dir={run_dir}", f"train.precision={precision}", "train.steps=14")
            self.assertEqual(self.Steps(run_dir)[-1]["step"], 14)
            self.assertLess(self.Steps(run_dir)[-1]["loss"], self.Steps(run_dir)[0]["loss"])
        self.assertIn("products of bf16 with fp32 masters", self.Run("info", "small.txtpb", "train.precision=BF16").text)


class ResumeTest(RunTest):
    def KillAt(self, process: subprocess.Popen[bytes], run_dir: str, step: int, victim: Callable[[], int]) -> None:
        """SIGKILL once the run has reported this step."""
        def reported() -> bool:
            self.assertIsNone(process.poll(), "the run ended before it could be killed")
            path = self.Path(run_dir, "metrics.jsonl")
            return os.path.exists(path) and len(self.Lines(path)) >= step
        WaitUntil(reported, f"step {step}")
        os.kill(victim(), signal.SIGKILL)
        self.assertNotEqual(self.Finish(process).code, 0)
        # Else it was too late to interrupt anything.
        self.assertLess(len(self.Lines(self.Path(run_dir, "metrics.jsonl"))), 300)

    @staticmethod
    def Lines(path: str) -> list[bytes]:
        with open(path, "rb") as file:
            return file.readlines()

    LONG = ["train.steps=300", "train.save_every=40", "train.eval_every=30", "train.eval_batches=1"]

    def test_killed_threads_continue_bit_for_bit_in_every_scope(self) -> None:
        for scope in ["STEP", "MICROBATCH", "RANK"]:
            settings = self.LONG + [f"moe.balance_scope={scope}", "parallel.ranks=3"]
            self.Train(f"run_dir=whole-{scope}", *settings)
            process = self.Start("train", "small.txtpb", f"run_dir={scope}", *settings)
            self.KillAt(process, scope, 90, lambda: process.pid)
            outcome = self.Train(f"run_dir={scope}", *settings)
            self.assertRegex(outcome.text, rf"continuing from {scope}/checkpoints/step-\d+")
            self.assertEqual(self.Results(scope), self.Results(f"whole-{scope}"))

    def test_killed_rank_of_mpirun_continues_bit_for_bit(self) -> None:
        settings = self.LONG + ["moe.router=SIGMOID", "moe.router_constant=0", "moe.balance=BIAS"]
        self.Train("run_dir=whole", *settings, mpi=3)
        process = self.Start("train", "small.txtpb", "run_dir=killed", *settings, mpi=3)
        self.KillAt(process, "killed", 90, lambda: RanksOf(process.pid)[1])
        self.Train("run_dir=killed", *settings, mpi=3)
        self.assertEqual(self.Results("killed"), self.Results("whole"))

    # Weights and gradients of shadows travel in every step, so any moment of a kill is among them.
    def test_a_rank_killed_among_shadows_continues_bit_for_bit(self) -> None:
        settings = ["train.steps=160", "train.save_every=35", "train.eval_every=0", "model.seq_length=64", "train.micro_batch=4",
                    "train.global_batch=24", "moe.experts=6", "moe.balance=NONE", "parallel.replace_every=10"]
        outcome = self.Train("run_dir=whole", "parallel.shadow_experts=2", *settings, mpi=3)
        self.assertRegex(outcome.text, r"moved \d of 6 experts, .*B in .* s, [1-5] shadows: slot imbalance 1\.\d+ -> 1\.0\d+")
        process = self.Start("train", "small.txtpb", "run_dir=killed", "parallel.shadow_experts=2", *settings, mpi=3)
        self.KillAt(process, "killed", 60, lambda: RanksOf(process.pid)[1])
        self.Train("run_dir=killed", "parallel.shadow_experts=2", *settings, mpi=3)
        self.assertEqual(self.Results("killed"), self.Results("whole"))
        # And without shadows the losses are the same to rounding, which training amplifies.
        self.Train("run_dir=without", *settings, mpi=3)
        for line, other in zip(self.Steps("whole")[:40], self.Steps("without")[:40], strict=True):
            self.assertAlmostEqual(line["loss"], other["loss"], delta=1e-4)

    def test_experts_move_and_change_nothing(self) -> None:
        settings = ["train.steps=60", "train.save_every=25", "train.eval_every=0", "parallel.ranks=3"]
        self.Train("run_dir=still", "parallel.placement=CONTIGUOUS", *settings)
        outcome = self.Train("run_dir=moving", "parallel.replace_every=10", *settings)
        self.assertRegex(outcome.text, r"moved \d+ of \d+ experts, .*B in .* s: slot imbalance 1\.\d+ -> 1\.\d+")
        for moving, still in zip(self.Steps("moving"), self.Steps("still"), strict=True):
            for key in ["loss", "grad_norm", "pool_loss"]:
                self.assertEqual(moving[key], still[key], moving["step"])
        self.assertGreaterEqual(self.Steps("moving")[0]["slot_imbalance"], 1)
        # From the middle of an interval, on as many ranks and on others.
        self.CopyCheckpoint(25, "again", "moving")
        self.Train("run_dir=again", "parallel.replace_every=10", *settings)
        self.assertEqual(self.Results("again"), self.Results("moving"))
        self.CopyCheckpoint(25, "two", "moving")
        self.Train("run_dir=two", "parallel.replace_every=10", *settings[:-1], "parallel.ranks=2")
        self.AssertLossesClose("two", "moving", first_step=26)

    def test_what_an_interrupted_save_leaves_is_not_taken(self) -> None:
        self.Train()
        self.CopyCheckpoint(6, "left")
        checkpoints = self.Path("left", "checkpoints")
        os.mkdir(os.path.join(checkpoints, "step-9.partial"))
        self.Write("left/checkpoints/step-9.partial/model.safetensors", b"half")
        os.mkdir(os.path.join(checkpoints, "step-10"))  # as if by hand: not whole
        self.Write("left/checkpoints/step-10/model.safetensors", b"half")
        outcome = self.Train("run_dir=left")
        self.assertIn("continuing from left/checkpoints/step-6", outcome.text)
        self.assertIn("left/checkpoints/step-10: is no complete checkpoint", outcome.text)
        self.assertEqual(self.Results("left"), self.Results("run"))
        self.assertNotIn("step-9.partial", os.listdir(checkpoints))

    def test_a_finished_run_has_nothing_to_do(self) -> None:
        self.Train()
        before = self.Results()
        self.assertNotIn("step 12/12", self.Train().text)
        self.assertEqual(self.Results(), before)

    def test_a_run_may_end_without_a_checkpoint(self) -> None:
        told = self.Train("train.steps=5", "train.save_every=0", "train.save_at_end=false", "run_dir=none")
        self.assertIn("the weights of step 5 were not saved, as train.save_at_end=false says; there is no checkpoint", told.text)
        self.assertFalse(os.path.exists(self.Path("none", "checkpoints")) and os.listdir(self.Path("none", "checkpoints")))
        told = self.Train("train.steps=5", "train.save_every=3", "train.save_at_end=false", "run_dir=some")
        self.assertIn("the newest checkpoint is of step 3", told.text)
        # Repeated, it goes on from there and ends with the same loss.
        last = self.Steps("some")[-1]
        self.Train("train.steps=5", "train.save_every=3", "train.save_at_end=false", "run_dir=some")
        again = self.Steps("some")[-1]
        self.assertEqual((last["step"], last["loss"]), (again["step"], again["loss"]))

    def test_another_layout_continues_a_checkpoint(self) -> None:
        self.Train("parallel.ranks=4")
        layouts = {"one": (["parallel.ranks=1"], 0), "three": (["parallel.ranks=3"], 0), "mpi": ([], 3),
                   "stages": (["parallel.ranks=2", "parallel.stages=2"], 0),
                   "per_stage": (["parallel.ranks=4", "parallel.stages=2", "parallel.experts=PER_STAGE"], 0),
                   "both": (["parallel.ranks=4", "parallel.stages=2"], 0),
                   "replicas": (["parallel.ranks=2", "parallel.pool_replicas=2"], 0)}
        for run_dir, (overrides, mpi) in layouts.items():
            self.CopyCheckpoint(6, run_dir)
            outcome = self.Train(f"run_dir={run_dir}", *overrides, mpi=mpi)
            self.assertIn(f"continuing from {run_dir}/checkpoints/step-6", outcome.text)
            self.AssertLossesClose(run_dir, "run", first_step=7)
            self.assertEqual(self.Results(run_dir)[:7], self.Results("run")[:7])


if __name__ == "__main__":
    run_harness.Main(__doc__)
