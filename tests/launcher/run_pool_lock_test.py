#!/usr/bin/env python3
"""UniPool-lock as people use it: a run through its three stages, killed on the way, on several layouts, with other settings,
its checkpoints in eval and as a start, and the runs that are refused or end.

Usage: run_pool_lock_test.py UNIPOOL MPIRUN
"""
import os
import signal
import struct
import time

import run_harness
from run_harness import ReadFolder, RunTest

# Owners are decided at step 8 and locked at step 16.
LOCK = ["moe.experts=6", "moe.lock.assignment=COUNTS", "moe.lock.entropy_end_fraction=0.2", "moe.lock.lock_fraction=0.4",
        "moe.lock.entropy_target=2", "moe.lock.guard_consecutive=0", "train.steps=40", "train.save_every=5", "train.eval_every=5",
        "moe.balance_coeff=1e-2"]


class PoolLock(RunTest):
    def Validations(self, run_dir: str) -> list[dict[str, float]]:
        return [line for line in self.Metrics(run_dir) if "valid_loss" in line]

    def Owners(self, run_dir: str, step: int = 40) -> list[list[int]]:
        """By layer, from the attenuation in a checkpoint."""
        tensors = ReadFolder(self.Path(run_dir, "checkpoints", f"step-{step}"))
        rows = []
        for layer in range(3):
            _, shape, data = tensors[f"model.layers.{layer}.mlp.router.attenuation"]
            factors = struct.unpack(f"<{shape[0]}f", data)
            self.assertTrue(set(factors) <= {0.0, 1.0}, factors)
            rows.append([i for i, factor in enumerate(factors) if factor == 1])
        return rows

    def test_a_run_passes_through_its_stages(self) -> None:
        outcome = self.Train("run_dir=one", *LOCK)
        self.assertRegex(outcome.text, r"lock: at step 8 each layer got 2 experts .* other experts fade until step 16")
        steps = self.Steps("one")
        self.assertEqual([s["lock_stage"] for s in steps], [0] * 8 + [1] * 8 + [2] * 24)
        self.assertEqual([s["lock_alpha"] for s in steps[:9]], [0] * 9)
        self.assertAlmostEqual(steps[12]["lock_alpha"], 0.5)
        self.assertEqual({s["lock_alpha"] for s in steps[16:]}, {1})
        self.assertEqual({s["off_mask_rows"] for s in steps[:8] + steps[16:]}, {0})
        self.assertGreater(sum(s["off_mask_rows"] for s in steps[8:16]), 0)
        self.assertTrue(all(s["lock_entropy"] > 0 for s in steps))
        validations = {v["step"]: v for v in self.Validations("one")}
        # Also where eval_every does not divide.
        self.assertEqual(sorted(validations), [5, 8, 10, 15, 16, 20, 25, 30, 35, 40])
        self.assertNotIn("guard_excess", validations[5])
        self.assertEqual(validations[8]["guard_excess"], 0)
        self.assertEqual(validations[40]["lock_coverage_min"], 1)
        self.assertLess(validations[8]["lock_coverage_min"], 1)
        self.assertAlmostEqual(validations[40]["guard_excess"], validations[40]["valid_loss"] - validations[8]["valid_loss"])
        rows = self.Owners("one")
        self.assertEqual(sorted(sum(rows, [])), list(range(6)), "each expert has one layer")
        self.assertEqual([len(row) for row in rows], [2, 2, 2])
        # A checkpoint computes what the run computed, without being told.
        self.assertAlmostEqual(self.EvalLoss("run_dir=one", *LOCK), validations[40]["valid_loss"], places=5)

    def test_without_eval_every_it_validates_at_its_boundaries_alone(self) -> None:
        self.Train("run_dir=one", *LOCK, "train.eval_every=0")
        self.assertEqual([v["step"] for v in self.Validations("one")], [8, 16])

    def test_layouts_decide_alike(self) -> None:
        self.Train("run_dir=one", *LOCK)
        for name, settings, mpi in [("threads", ["parallel.ranks=3"], 0), ("stages", ["parallel.stages=2"], 2),
                                    ("moving", ["parallel.ranks=4", "parallel.stages=2", "parallel.replace_every=3"], 0),
                                    ("owners", ["parallel.ranks=2", "parallel.stages=2", "parallel.placement=OWNER_STAGE"], 0),
                                    ("replicas", ["parallel.ranks=2", "parallel.pool_replicas=2"], 0)]:
            self.Train(f"run_dir={name}", *LOCK, *settings, mpi=mpi)
            self.assertEqual(self.Owners(name), self.Owners("one"), name)
            for own, one in zip(self.Steps(name), self.Steps("one"), strict=True):
                self.assertAlmostEqual(own["loss"], one["loss"], delta=1e-4, msg=f"{name}, step {own['step']}")

    def test_killed_inside_the_anneal_it_goes_on_bit_for_bit(self) -> None:
        slow = [*LOCK, "train.steps=800", "train.save_every=50", "train.eval_every=100", "train.eval_batches=1"]
        self.Train("run_dir=whole", *slow, "parallel.ranks=2")
        process = self.Start("train", "small.txtpb", "run_dir=killed", *slow, "parallel.ranks=2")
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                if self.Steps("killed")[-1]["step"] >= 200:  # the anneal is from 160 to 320
                    break
            except (OSError, IndexError, ValueError):
                pass
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        self.Finish(process)
        self.assertLess(self.Steps("killed")[-1]["step"], 320, "it was to be killed before the lock")
        self.Train("run_dir=killed", *slow, "parallel.ranks=2")
        self.assertEqual([s["loss"] for s in self.Steps("killed")], [s["loss"] for s in self.Steps("whole")])
        self.assertEqual(self.Owners("killed", 800), self.Owners("whole", 800))

    def test_other_settings_are_refused(self) -> None:
        self.Train("run_dir=one", *LOCK)
        for setting, sentence in [("moe.lock.coverage=0.5", "moe.lock.coverage is 0.95 there and 0.5 here"),
                                  ("moe.lock.assignment=RANDOM", "moe.lock.assignment is COUNTS there and RANDOM here")]:
            outcome = self.Train("run_dir=one", *LOCK, setting, "train.steps=41", code=2)
            self.assertIn(sentence, outcome.text)
        without = [s for s in LOCK if not s.startswith("moe.lock.")]
        outcome = self.Train("run_dir=one", *without, "train.steps=41", code=2)
        self.assertIn("moe.lock.assignment is COUNTS there and NONE here", outcome.text)
        self.Train("run_dir=plain", *without)
        outcome = self.Train("run_dir=plain", *LOCK, "train.steps=41", code=2)
        self.assertIn("moe.lock.assignment is NONE there and COUNTS here", outcome.text)

    def test_longer_runs_keep_their_boundaries(self) -> None:
        self.Train("run_dir=one", *LOCK, "train.steps=40")
        self.Train("run_dir=one", *LOCK, "train.steps=120")
        self.assertEqual({s["lock_stage"] for s in self.Steps("one")[40:]}, {2})
        self.assertEqual(self.Owners("one", 120), self.Owners("one", 40))

    def test_a_locked_model_as_a_start_stays_locked(self) -> None:
        self.Train("run_dir=one", *LOCK)
        start = self.Path("one", "checkpoints", "step-40")
        without = [s for s in LOCK if not s.startswith("moe.lock.")]
        self.Train("run_dir=tuned", *without, f"train.init_from={start}")
        self.assertEqual(self.Owners("tuned"), self.Owners("one"))
        outcome = self.Train("run_dir=again", *LOCK, f"train.init_from={start}", code=2)
        self.assertIn("whose layers have given up experts already", outcome.text)

    def test_drawn_owners_are_a_control(self) -> None:
        drawn = [*LOCK, "moe.lock.assignment=RANDOM"]
        self.Train("run_dir=one", *drawn)
        self.Train("run_dir=other", *drawn, "train.seed=2")
        self.assertEqual([s["lock_stage"] for s in self.Steps("one")], [0] * 8 + [1] * 8 + [2] * 24)
        self.assertNotEqual(self.Owners("one"), self.Owners("other"))
        self.Train("run_dir=early", *drawn, "moe.lock.entropy_end_fraction=0", "moe.lock.lock_fraction=0")
        self.assertEqual({s["lock_stage"] for s in self.Steps("early")}, {2})
        self.assertEqual(self.Owners("early"), self.Owners("one"), "drawn from the seed alone")

    def test_the_guard_ends_a_run(self) -> None:
        """The validation is of letters that the training text has not: the better the run learns, the worse it is there."""
        self.Write("others.txt", bytes(128 + i % 7 * (i % 11) for i in range(3000)))
        outcome = self.Train("run_dir=one", *LOCK, "moe.lock.guard_consecutive=2", "moe.lock.guard_excess=0", "data.split=100,0,0",
                             "data.valid=others.txt", code=2)
        self.assertRegex(outcome.text, r"the lock makes the run worse")
        validations = self.Validations("one")
        self.assertEqual([v["guard_excess"] > 0 for v in validations if "guard_excess" in v][-2:], [True, True])
        self.assertTrue(os.path.isdir(self.Path("one", "checkpoints", "step-5")), "checkpoints are kept")

    def test_too_little_to_validate_on(self) -> None:
        outcome = self.Train("run_dir=one", *LOCK, "data.split=997,3,0", "train.micro_batch=12", code=2)
        self.assertIn("the validation has fewer sequences than train.micro_batch", outcome.text)


if __name__ == "__main__":
    run_harness.Main(__doc__)
