#!/usr/bin/env python3
"""Numbers that are none: skipped steps, checkpoints to go back to, and going back; nothing aborts."""
import json
import math
import os
import struct
import unittest

import run_harness
from run_harness import SIGNS_OF_A_BUG, Outcome, ReadFolder, ReadTensors, RunTest, WriteTensors

# Learns for 4 steps; then the learning rate of another start is too large.
GOOD = ["train.steps=4", "train.save_every=1", "train.eval_every=0", "train.keep_checkpoints=2"]
BAD = ["train.steps=40", "train.save_every=1", "train.eval_every=0", "train.keep_checkpoints=2", "train.lr=300", "train.min_lr=300"]


class NumbersTest(RunTest):
    def Checkpoints(self, run_dir: str = "run") -> list[str]:
        return sorted(os.listdir(self.Path(run_dir, "checkpoints")))

    def TrainingState(self, step: int, run_dir: str = "run") -> dict[str, object]:
        with open(self.Path(run_dir, "checkpoints", f"step-{step}", "training_state.json")) as file:
            state: dict[str, object] = json.load(file)["training_state"]
        return state

    def AssertSentence(self, outcome: Outcome) -> None:
        self.assertEqual(outcome.code, 2, outcome)
        for sign in SIGNS_OF_A_BUG:
            self.assertNotIn(sign, outcome.text)

    def StrictLines(self, run_dir: str) -> list[dict[str, object]]:
        def Refuse(word: str) -> None:
            self.fail(f"{word} is no JSON")
        with open(self.Path(run_dir, "metrics.jsonl")) as file:
            return [json.loads(line, parse_constant=Refuse) for line in file]

    def test_divergence_names_the_checkpoint_to_go_back_to(self) -> None:
        for mpi in [0, 2]:
            run = f"run_dir=diverged-{mpi}"
            self.Train(run, *GOOD, mpi=mpi)
            outcome = self.Train(run, *BAD, mpi=mpi, code=2)
            self.AssertSentence(outcome)
            self.assertIn("3 steps in a row were skipped", outcome.text)
            self.assertIn("train.resume_step=4", outcome.text.split("error:")[-1])
            names = self.Checkpoints(f"diverged-{mpi}")
            self.assertEqual(len(names), 3, names)
            self.assertIn("step-4", names)
            self.assertTrue(self.TrainingState(4, f"diverged-{mpi}")["sound"])
            lines = self.StrictLines(f"diverged-{mpi}")
            self.assertEqual([line.get("skipped") for line in lines[-4:]], [None, 1, 1, 1])
            # Back, with the optimizer and the position in the data: as a run that was never spoilt.
            back = [*GOOD[1:], "train.steps=8", "train.resume_step=4"]
            outcome = self.Train(run, *back, mpi=mpi)
            self.assertEqual(outcome.text.count(".abandoned"), 2, outcome)
            self.Train(f"run_dir=straight-{mpi}", *GOOD, mpi=mpi)
            self.Train(f"run_dir=straight-{mpi}", *GOOD[1:], "train.steps=8", mpi=mpi)
            self.assertEqual(self.Results(f"diverged-{mpi}"), self.Results(f"straight-{mpi}"))
            self.assertIn("step-7", self.Checkpoints(f"diverged-{mpi}"))
            # The same again goes on, also with more steps.
            self.Train(run, *back, mpi=mpi)
            outcome = self.Train(run, *back, "train.steps=9", mpi=mpi)
            self.assertIn("continuing from diverged-%d/checkpoints/step-8" % mpi, outcome.text)
            self.assertEqual(self.Steps(f"diverged-{mpi}")[-1]["step"], 9)

    def test_goes_back_once_more_when_that_has_diverged_too(self) -> None:
        self.Train(*GOOD)
        self.Train(*BAD, code=2)
        self.Train(*BAD, "train.resume_step=4", code=2)
        again = self.Train(*BAD, "train.resume_step=4", code=2)  # the same command: a requeue
        self.assertNotIn("went back to step 4: ", again.text)
        outcome = self.Train(*GOOD[1:], "train.steps=8", "train.resume_step=4")
        self.assertIn("went back to step 4: ", outcome.text)
        self.assertEqual(self.Checkpoints()[-2:], ["step-7", "step-8"])

    def test_a_step_that_is_not_there(self) -> None:
        self.Train(*GOOD)
        outcome = self.Train(*GOOD, "train.resume_step=1", code=2)
        self.AssertSentence(outcome)
        self.assertIn("it holds those of steps 3, 4", outcome.text)
        self.assertEqual(self.Checkpoints(), ["step-3", "step-4"])
        outcome = self.Train(*GOOD, "run_dir=new", "train.resume_step=1", code=2)
        self.assertIn("none at all", outcome.text)
        os.truncate(self.Path("run", "checkpoints", "step-3", "model.safetensors"), 100)
        outcome = self.Train(*GOOD, "train.resume_step=3", code=2)
        self.AssertSentence(outcome)
        self.assertEqual(self.Checkpoints(), ["step-3", "step-4"])
        self.assertIn("train.resume_step: is -1", self.Train("train.resume_step=-1", code=2).text)

    def test_verify_lists_what_was_set_aside(self) -> None:
        self.Train(*GOOD)
        self.Train(*GOOD, "train.resume_step=3")
        self.assertIn("step-4.abandoned: set aside", self.Run("verify", "run").text)

    def test_learning_rates_that_are_absurd(self) -> None:
        for rate in ["1e9", "1e30", "1e38", "3e38"]:
            for steps in ["1", "30"]:
                run = f"rate-{rate}-{steps}"
                outcome = self.Finish(self.Start("train", "small.txtpb", f"run_dir={run}", f"train.steps={steps}", f"train.lr={rate}",
                                                 "train.min_lr=0", "train.warmup_fraction=0", "train.eval_every=0", "train.save_every=1"))
                for sign in SIGNS_OF_A_BUG:
                    self.assertNotIn(sign, outcome.text, f"{run}: {outcome}")
                self.assertIn(outcome.code, [0, 2], outcome)
                self.StrictLines(run)
                if not os.path.exists(self.Path(run, "checkpoints")):
                    continue
                for name in self.Checkpoints(run):  # what was saved is numbers, with which a loss is one
                    step = int(name.removeprefix("step-"))
                    self.assertIsNotNone(self.TrainingState(step, run)["loss_after"], run)
                    for tensor, (_, shape, data) in ReadFolder(self.Path(run, "checkpoints", name)).items():
                        numbers = struct.unpack(f"<{math.prod(shape)}f", data)
                        self.assertTrue(all(map(math.isfinite, numbers)), f"{run}: {tensor}")

    def test_planted_numbers(self) -> None:
        self.Train("train.steps=1", "train.eval_every=0")
        whole = ReadTensors(self.Path("run", "checkpoints", "step-1", "model.safetensors"))
        for name in ["model.embed_tokens.weight", "model.layers.0.mlp.router.weight", "model.pool.experts.3.down_proj.weight",
                     "model.norm.weight", "lm_head.weight"]:
            for value in [math.nan, -math.inf, 1e38]:
                kind, shape, data = whole[name]
                os.makedirs(self.Path("planted"), exist_ok=True)
                spoilt = data[:20] + struct.pack("<f", value) + data[24:]
                WriteTensors(self.Path("planted", "model.safetensors"), {**whole, name: (kind, shape, spoilt)})
                for command in [["train", "small.txtpb", f"run_dir=fresh-{name}-{value}", "train.init_from=planted", "train.steps=4", "train.eval_every=0"],
                                ["eval", "small.txtpb", "--checkpoint=planted"],
                                ["generate", "small.txtpb", "--checkpoint=planted", "--prompt=a", "--max_tokens=4"]]:
                    outcome = self.Finish(self.Start(*command))
                    if not math.isfinite(value):
                        self.AssertSentence(outcome)
                        self.assertRegex(outcome.text, rf"planted/model.safetensors: {name}: element 5 is ")
                    for sign in SIGNS_OF_A_BUG:
                        self.assertNotIn(sign, outcome.text, f"{name} {value} {command}: {outcome}")
                    self.assertIn(outcome.code, [0, 2], f"{name} {value} {command}: {outcome}")
                    if outcome.code == 0:
                        self.assertNotRegex(outcome.stdout.decode(errors="replace"), r"\b(nan|inf)\b")

    def test_a_checkpoint_from_which_the_loss_is_none_is_not_saved(self) -> None:
        self.Train(*GOOD)
        outcome = self.Train(*GOOD[1:], "train.steps=5", "train.lr=3e38", "train.min_lr=3e38", code=2)
        self.AssertSentence(outcome)
        self.assertIn("train.resume_step=4", outcome.text)
        self.assertEqual(self.Checkpoints(), ["step-3", "step-4"])


if __name__ == "__main__":
    run_harness.Main(__doc__)
