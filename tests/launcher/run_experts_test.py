#!/usr/bin/env python3
"""Which experts matter, with fewer of them, in more layers: the commands experts, shrink and grow, and moe.shrink_to."""
import json
import os
import shutil
import unittest
from typing import Any

import run_harness
from run_harness import Outcome, RunTest

LAYERS, EXPERTS = 3, 7  # of the small model
SHRINK = ["moe.shrink_to=4", "moe.shrink_begin=12", "moe.shrink_end=16", "train.steps=20", "train.save_every=3",
          "train.keep_checkpoints=0", "train.lr_schedule=CONSTANT",
          "train.warmup_fraction=0"]


class ExpertsTest(RunTest):
    def Json(self, *arguments: str, mpi: int = 0) -> Any:
        lines = self.Run(*arguments, "--json", mpi=mpi).stdout.decode().splitlines()
        self.assertEqual(len(lines), 1, lines)
        return json.loads(lines[0])

    def Refused(self, *arguments: str, says: str, mpi: int = 0, code: int = 2) -> Outcome:
        before = sorted(os.listdir(self.folder))
        outcome = self.Run(*arguments, mpi=mpi, code=code)
        self.assertIn(says, outcome.text)
        for sign in run_harness.SIGNS_OF_A_BUG:
            self.assertNotIn(sign, outcome.text)
        self.assertEqual(sorted(os.listdir(self.folder)), before)
        return outcome

    def test_experts_of_a_run(self) -> None:
        self.Train("parallel.ranks=2")
        report = self.Json("experts", "run", "--without=2", "--margin")
        self.assertAlmostEqual(report["loss"], self.ValidLosses()[12], delta=1e-6)
        self.assertEqual([len(report["layers"]), len(report["experts"])], [LAYERS, EXPERTS])
        for name in ["choices", "gate_mass", "importance", "ucb"]:
            table = report["tables"][name]
            self.assertEqual([len(table), len(table[0])], [LAYERS, EXPERTS])
            key = "choices" if name == "choices" else name
            for row in report["experts"]:
                self.assertAlmostEqual(sum(line[row["expert"]] for line in table), row[key], delta=1e-6 * (1 + row[key]))
        ranks = [row["ucb"] for row in report["experts"]]
        self.assertEqual(ranks, sorted(ranks, reverse=True))
        self.assertGreater(ranks[0], 0)
        tried = [row for row in report["experts"] if "loss_without" in row]
        self.assertEqual(len(tried), 4)
        self.assertTrue(all(0 < abs(row["loss_without"] - report["loss"]) < 1 or row["choices"] == 0 for row in tried), tried)
        # The same on other layouts, but for rounding.
        for start in [dict(), dict(mpi=3)]:
            layout = [] if start else ["parallel.ranks=2", "parallel.stages=2"]
            other = self.Json("experts", "run", "--without=2", "--margin", *layout, **start)
            self.assertAlmostEqual(other["loss"], report["loss"], delta=1e-6)
            for line, same in zip(other["layers"], report["layers"]):
                self.assertAlmostEqual(line["decision_margin"], same["decision_margin"], delta=1e-4)
                self.assertAlmostEqual(line["entropy_bits"], same["entropy_bits"], delta=1e-2)
            self.assertEqual(other["tables"]["ucb"], report["tables"]["ucb"])
            for row, same in zip(other["experts"], report["experts"]):
                self.assertEqual(row["expert"], same["expert"])
                if "loss_without" in same:
                    self.assertAlmostEqual(row["loss_without"], same["loss_without"], delta=1e-5)
        text = self.Run("experts", "run/checkpoints/step-12", "--sequences=4").text
        self.assertIn("4 sequences", text)
        self.assertLessEqual(max(map(len, text.splitlines())), 80)

    def test_experts_refuses_what_cannot_be(self) -> None:
        self.Train("train.steps=6")
        self.assertNotIn("ucb", self.Json("experts", "run", "--sequences=4")["tables"])  # six steps are no window
        self.Refused("experts", "run", "--without=-1", says="--without=-1: must be 0")
        self.Refused("experts", "run", "--split=all", says="--split=all: must be train, valid or test")
        self.Refused("experts", "run", "--sequences=-1", says="--sequences=-1")
        self.Refused("experts", "small.txtpb", "--checkpoint=nowhere", says="nowhere")
        self.Refused("experts", says="the configuration file is missing")

    def test_a_pool_that_was_shrunk_goes_on(self) -> None:
        self.Train("parallel.ranks=2", "train.steps=14")
        kept: dict[int, list[int]] = {}
        for experts in [3, 5]:
            result = self.Json("shrink", "run", f"--to={experts}", f"--out=small-{experts}", "--sequences=16")
            kept[experts] = result["kept"]
            self.assertEqual(len(result["kept"]), experts)
            self.assertLess(abs(result["loss_after"] - result["loss_before"]), 0.5)
            after = self.Json("eval", f"small-{experts}", "--sequences=16")
            self.assertAlmostEqual(after["loss"], result["loss_after"], delta=1e-6)
            self.Run("verify", f"small-{experts}")
        self.assertLess(set(kept[3]), set(kept[5]))
        # It trains on, and the layout changes nothing but rounding.
        for name in ["two", "stages"]:
            shutil.copytree(self.Path("small-5"), self.Path(name))
        go_on = ["train.steps=17", "train.save_every=0"]
        self.Run("train", "small-5/config.txtpb", *go_on, "parallel.ranks=1")
        self.Run("train", "small-5/config.txtpb", *go_on, "run_dir=two", "parallel.ranks=2")
        self.Run("train", "small-5/config.txtpb", *go_on, "run_dir=stages", "parallel.stages=2", mpi=2)
        self.assertEqual([line["step"] for line in self.Steps("small-5")], [15, 16, 17])
        for name in ["two", "stages"]:
            for line, same in zip(self.Steps(name), self.Steps("small-5"), strict=True):
                self.assertAlmostEqual(line["loss"], same["loss"], delta=1e-4)
        other = self.Json("shrink", "run", "--to=5", "--criterion=random", "--out=drawn", "--sequences=16")
        self.assertEqual(len(other["kept"]), 5)
        self.assertIn("experts stay", self.Run("shrink", "run", "--to=5", "--criterion=counts", "--out=counted", "--sequences=8").text)

    def test_shrink_refuses_what_cannot_be(self) -> None:
        self.Train("train.steps=6")
        self.Refused("shrink", "run", "--to=3", says="--out: is missing")
        self.Refused("shrink", "run", "--to=3", "--out=run", says="--out=run: exists")
        self.Refused("shrink", "run", "--out=new", says="--to: is missing")
        self.Refused("shrink", "run", "--to=99", "--out=new", says="below the")
        self.Refused("shrink", "run", "--to=3", "--criterion=luck", "--out=new", says="must be ucb, counts or random")
        self.Refused("shrink", "run", "--to=3", "--out=new", says="holds no importance")
        self.Refused("shrink", "run", "--to=3", "--criterion=random", "--out=" + 300 * "x", says="is not written", code=76)
        self.Refused("shrink", "run", "--to=3", "--criterion=random", "--out=new", mpi=2, says="start it without mpirun")
        with open(self.Path("run/checkpoints/step-6/model.safetensors"), "r+b") as file:
            file.seek(-9, os.SEEK_END)
            file.write(b"damage!")
        self.Refused("shrink", "run/checkpoints/step-6", "--to=3", "--criterion=random", "--out=new", says="does not hold what was saved")

    def test_a_pool_that_shrinks_during_training(self) -> None:
        text = self.Train(*SHRINK).text
        self.assertIn(f"4 of {EXPERTS} experts stay (UCB)", text)
        self.assertIn(f"the pool shrinks from {EXPERTS} to 4 experts", text)
        self.assertEqual([line["step"] for line in self.Steps()], list(range(1, 21)))
        self.assertTrue(os.path.isdir(self.Path(f"run/pools/experts-{EXPERTS}")))
        report = self.Json("experts", "run", "--sequences=8")
        self.assertEqual(len(report["experts"]), 4)
        larger = self.Json("eval", f"run/pools/experts-{EXPERTS}", "--sequences=8")["loss"]
        smaller = self.Json("eval", "run/checkpoints/step-16", "--sequences=8")["loss"]
        self.assertLess(abs(larger - smaller), 0.5)
        # Broken off behind the shrinking, or taken up amid it, it is the same bit for bit.
        expected = self.Results()
        for stop in ["train.steps=17", "train.steps=18"]:
            shutil.rmtree(self.Path("run"))
            self.Train(*SHRINK, stop)
            self.Train(*SHRINK)
            self.assertEqual([line["loss"] for line in self.Results() if "loss" in line],
                             [line["loss"] for line in expected if "loss" in line], stop)
        for step in [9, 12, 15]:
            shutil.rmtree(self.Path("run", "pools"))
            self.Train(*SHRINK, f"train.resume_step={step}")
            self.assertEqual([line["loss"] for line in self.Results() if "loss" in line],
                             [line["loss"] for line in expected if "loss" in line], f"back to {step}")
        # Killed when the checkpoint was there, and the faded experts still in it.
        for step in [16, 18, 20]:
            shutil.rmtree(self.Path("run/checkpoints", f"step-{step}"))
        shutil.copytree(self.Path(f"run/pools/experts-{EXPERTS}"), self.Path("run/checkpoints/step-16"))
        self.Train(*SHRINK)
        self.assertEqual([line["loss"] for line in self.Steps()], [line["loss"] for line in expected if "loss" in line])
        # On other layouts to rounding, and all ranks alike.
        for name, layout in [("two", ["parallel.ranks=2"]), ("stages", ["parallel.ranks=2", "parallel.stages=2"])]:
            self.Train(*SHRINK, *layout, f"run_dir={name}")
            for line, same in zip(self.Steps(name), self.Steps(), strict=True):
                self.assertAlmostEqual(line["loss"], same["loss"], delta=1e-3)
        # Nothing is left to do.
        self.assertIn("20", self.Train(*SHRINK).text)

    def test_settings_of_shrinking_are_checked(self) -> None:
        for overrides, says in [(["moe.shrink_begin=3"], "only with moe.shrink_to"),
                                (["moe.shrink_to=4", "moe.shrink_begin=3", "moe.shrink_end=9"], "moe.shrink_begin: is 3"),
                                (["moe.shrink_to=4", "moe.shrink_begin=10", "moe.shrink_end=10"], "moe.shrink_end: is 10"),
                                (["moe.shrink_to=400", "moe.shrink_begin=10", "moe.shrink_end=11"], "moe.shrink_to: is 400"),
                                (["moe.shrink_to=4", "moe.shrink_begin=10", "moe.shrink_end=999"], "before train.steps")]:
            self.Refused("train", "small.txtpb", *overrides, says=says)

    def test_a_deeper_model_is_the_same_at_first(self) -> None:
        self.Train("train.steps=14")
        result = self.Json("grow", "run", f"--layers={LAYERS + 2}", "--out=deep")
        self.assertEqual(result["layers"], LAYERS + 2)
        deep = ["run_dir=deep", f"model.layers={LAYERS + 2}"]
        self.assertEqual(self.EvalLoss("train.micro_batch=2", *deep), self.EvalLoss("train.micro_batch=2"))
        text = self.Run("generate", "run", "--prompt=the pool", "--temperature=0").stdout
        self.assertEqual(self.Run("generate", "deep", "--prompt=the pool", "--temperature=0").stdout, text)
        # It learns on, with the new layers in use, on any layout.
        self.Run("train", "deep/config.txtpb", "train.steps=20", mpi=2)
        self.assertEqual([line["step"] for line in self.Steps("deep")], list(range(15, 21)))
        tables = self.Json("experts", "deep", "--sequences=8")["tables"]
        self.assertEqual(len(tables["choices"]), LAYERS + 2)
        at = self.Json("grow", "run", f"--layers={LAYERS + 1}", "--after=0", "--out=early")
        self.assertEqual(at["after"], [0])
        self.assertEqual(self.Json("eval", "early")["loss"], self.Json("eval", "run")["loss"])
        # Without the new layer again it is what it was.
        self.Run("grow", "early", "--drop=1", "--out=back")
        self.assertEqual(self.Json("eval", "back")["loss"], self.Json("eval", "run")["loss"])
        self.assertNotEqual(self.Json("eval", "back")["loss"], self.Json("grow", "run", "--drop=1", "--out=less")["layers"])
        self.assertGreater(self.Json("eval", "less")["loss"], 0)
        self.Run("train", "less/config.txtpb", "train.steps=16")

    def test_grow_refuses_what_cannot_be(self) -> None:
        self.Train("train.steps=6")
        self.Refused("grow", "run", f"--layers={LAYERS}", "--out=new", says="must be more than the")
        self.Refused("grow", "run", "--out=new", says="--layers=0")
        self.Refused("grow", "run", f"--layers={LAYERS + 1}", "--out=run", says="exists")
        self.Refused("grow", "run", f"--layers={LAYERS + 1}", "--after=1,1", "--out=new", says="names 2 places")
        self.Refused("grow", "run", f"--layers={LAYERS + 1}", "--after=99", "--out=new", says='"99" is no layer')
        self.Refused("grow", "run", "--drop=x", "--out=new", says='"x" is no layer')
        self.Refused("grow", "run", "--drop=0,0", "--out=new", says="twice")
        self.Refused("grow", "run", "--drop=" + ",".join(map(str, range(LAYERS))), "--out=new", says="leaves no layer")
        self.Refused("grow", "run", "--drop=0", "--layers=9", "--out=new", says="without --layers")
        self.Train("train.steps=2", "run_dir=soft", "moe.router=SOFTMAX", "moe.router_constant=0")
        self.Refused("grow", "soft", f"--layers={LAYERS + 1}", "--out=new", says="has no scale")


if __name__ == "__main__":
    run_harness.Main(__doc__)
