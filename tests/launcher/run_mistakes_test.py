#!/usr/bin/env python3
"""A person's mistake is one sentence that names the field or file and what to do, exit code 2, nothing half-written;
in one process, with threads and under mpirun alike."""
import ctypes
import fcntl
import json
import os
import shutil
import subprocess
import unittest

import run_harness
from run_harness import RunTest, SIGNS_OF_A_BUG, WriteMegatron

Way = tuple[list[str], int]  # settings, and ranks under mpirun


class MistakesTest(RunTest):
    WAYS: list[Way] = [([], 0), (["parallel.ranks=3"], 0), ([], 3)]

    def Expect(self, patterns: list[str], *arguments: str, ways: list[Way] | None = None) -> None:
        """All patterns are said, the first one exactly once."""
        for overrides, mpi in ways or self.WAYS:
            outcome = self.Run(*arguments, *overrides, mpi=mpi, code=2)
            for sign in SIGNS_OF_A_BUG:
                self.assertNotIn(sign, outcome.text)
            for pattern in patterns:
                self.assertIn(pattern, outcome.text, f"{arguments} {overrides} mpi={mpi}")
            self.assertEqual(outcome.text.count(patterns[0]), 1, outcome)
            self.assertLess(outcome.seconds, 30)

    def ExpectTraining(self, patterns: list[str], *overrides: str, ways: list[Way] | None = None) -> None:
        self.Expect(patterns, "train", "small.txtpb", *overrides, ways=ways)
        self.assertFalse(os.path.exists(self.Path("run", "checkpoints")))

    def test_settings(self) -> None:
        self.Write("unknown.txtpb", 'model {\n  hiden: 32\n}\n')
        self.Expect(["unknown.txtpb:2", "hiden", "hidden"], "train", "unknown.txtpb")
        self.Write("type.txtpb", 'model {\n  hidden: "wide"\n}\n')
        self.Expect(["type.txtpb:2", "hidden", "wide"], "train", "type.txtpb")
        self.Expect(["nofile.txtpb: cannot be read"], "train", "nofile.txtpb", ways=[([], 0), ([], 3)])
        self.ExpectTraining(["model.hiden=7", "no such field"], "model.hiden=7")
        self.ExpectTraining(["model.layers=few"], "model.layers=few")
        self.ExpectTraining(["model.hidden: is 30", "model.heads (4)"], "model.hidden=30")
        self.ExpectTraining(["model.heads: is 4", "model.kv_heads (3)"], "model.kv_heads=3")

    def test_settings_that_compute_something_else_than_the_checkpoint(self) -> None:
        self.Train("train.steps=1")
        for setting in ["moe.router_constant=9", "model.norm_eps=0.1", "model.rope_base=100"]:
            name = setting.split("=")[0]
            self.Expect(["holds another model", name], "train", "small.txtpb", "train.steps=2", setting, ways=self.WAYS[:1])
            self.Expect(["holds another model", name], "eval", "small.txtpb", setting, ways=self.WAYS[:1])

    def test_one_run_per_folder(self) -> None:
        os.makedirs(self.Path("run"))
        with open(self.Path("run", "lock"), "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.ExpectTraining(["another run is using"])
        self.Train("train.steps=1")

    def test_a_data_file_that_changes_while_it_is_read(self) -> None:
        def cut(path: str) -> None:
            os.truncate(path, 1000)

        def write_over(path: str) -> None:
            with open(path, "r+b") as file:
                file.write(b"other")

        for i, (change, ways) in enumerate([(cut, {}), (write_over, {}), (cut, {"mpi": 2})]):
            self.Write("big.txt", b"some words " * 1000000)
            process = self.Start("train", "small.txtpb", "data.train=big.txt", "train.steps=1000000", "train.save_every=5",
                                 "train.eval_every=0", "train.keep_checkpoints=1", f"run_dir=changed{i}", **ways)
            run_harness.WaitUntil(lambda: os.path.isdir(self.Path(f"changed{i}", "checkpoints")) and any(  # noqa: B023
                name.split("-")[1].isdigit() for name in os.listdir(self.Path(f"changed{i}", "checkpoints"))), "a save")  # noqa: B023
            change(self.Path("big.txt"))
            outcome = self.Finish(process)
            self.assertEqual(outcome.code, 2, outcome)
            self.assertEqual(outcome.text.count("big.txt: was written to while it was read"), 1, outcome)
            self.assertTrue([name for name in os.listdir(self.Path(f"changed{i}", "checkpoints")) if "partial" not in name])

    def test_batches_that_do_not_divide_say_what_would_fit(self) -> None:
        patterns = ["train.global_batch: is 10 sequences", "train.global_batch 9 or 12"]
        self.ExpectTraining(patterns, "train.global_batch=10", ways=self.WAYS[1:])

    def test_data_files(self) -> None:
        self.ExpectTraining(["data source nobook.txt"], "data.train=nobook.txt")
        self.ExpectTraining(["no book.txt: no such file"], "data.train=0.4 no book.txt,0.6 book.txt")
        shutil.copy(self.Path("book.txt"), self.Path("my, book (1).txt"))
        for i, name in enumerate(['"my, book (1).txt"', "my\\, book (1).txt", '0.5 "my, book (1).txt",0.5 book.txt']):
            self.Train(f"data.train={name}", "train.steps=1", f"run_dir=comma{i}")
        documents = [[i % 50 for i in range(first, first + 200)] for first in range(30)]
        WriteMegatron(self.Path("good"), documents)
        self.Train("data.train=good", "train.steps=1", "run_dir=works")

        for name in ["cut", "magic", "nobin"]:
            for end in [".bin", ".idx"]:
                shutil.copy(self.Path("good" + end), self.Path(name + end))
        with open(self.Path("cut.idx"), "r+b") as file:
            file.truncate(100)
        self.ExpectTraining(["cut.idx"], "data.train=cut")
        with open(self.Path("magic.idx"), "r+b") as file:
            file.write(b"NOTMAGIC\x00")
        self.ExpectTraining(["magic.idx"], "data.train=magic")
        os.remove(self.Path("nobin.bin"))
        self.ExpectTraining(["nobin"], "data.train=nobin")
        self.ExpectTraining(["good.bin", "model.vocab", "of the tokenizer that made the file, 50 or more"], "data.train=good",
                            "model.vocab=49")
        self.ExpectTraining(["book.txt", "set model.vocab=256"], "model.vocab=100")
        self.Write("short.txt", "short")
        self.ExpectTraining(["short.txt"], "data.train=short.txt")

    def test_checkpoint_of_another_model(self) -> None:
        self.Train()
        before = sorted(os.listdir(self.Path("run", "checkpoints")))
        self.Expect(["model.hidden is 32 there and 48 here", "run/checkpoints/step-12", "misshaped"], "train", "small.txtpb",
                    "model.hidden=48")
        self.Expect(["moe.experts is 7 there and 9 here", "missing: model.pool.experts.8.down_proj.weight"], "train",
                    "small.txtpb", "moe.experts=9")
        self.Expect(["misshaped: lm_head.weight is [256,32] and must be [256,48]"], "eval", "small.txtpb", "model.hidden=48")
        self.assertEqual(sorted(os.listdir(self.Path("run", "checkpoints"))), before)

    def test_broken_index_says_what_to_do(self) -> None:
        os.makedirs(self.Path("weights"))
        self.Write("weights/model.safetensors.index.json", '{"weight_map": 3')
        self.ExpectTraining(["index.json: is damaged", "copy the folder again, or remove the index"],
                            "train.init_from=weights")

    def test_biases_and_models_without(self) -> None:
        biased = ["moe.balance=BIAS", "run_dir=biased"]
        self.Train("train.steps=1")
        self.Train("train.steps=1", *biased)
        patterns = ["the biases of moe.balance BIAS", "set moe.balance=BIAS"]
        step = "checkpoints/step-1"
        self.Expect(patterns, "train", "small.txtpb", "run_dir=new", f"train.init_from=biased/{step}", ways=self.WAYS[:2])
        self.Expect(patterns, "train", "small.txtpb", "run_dir=biased", "train.steps=2", ways=self.WAYS[:1])
        self.Expect(patterns, "eval", "small.txtpb", "run_dir=biased", ways=self.WAYS[:1])
        note = "warning: run/checkpoints/step-1: holds no router biases"
        begun = self.Train("train.steps=1", "moe.balance=BIAS", "run_dir=begun", f"train.init_from=run/{step}")
        self.assertIn(note, begun.text)
        self.assertIn(note, self.Train("train.steps=2", "moe.balance=BIAS").text)
        with open(self.Path("biased", step, "config.json"), encoding="utf-8") as file:
            self.assertEqual(json.load(file)["load_balance"], "BIAS")
        own = ["moe.balance=BIAS", "moe.bias_scope=LAYER"]
        self.Expect(["moe.bias_scope is POOL there and LAYER here"], "train", "small.txtpb", "run_dir=biased", "train.steps=2",
                    *own, ways=self.WAYS[:1])
        self.Train("train.steps=1", "run_dir=own", *own)
        self.Expect(["moe.balance=BIAS moe.bias_scope=LAYER"], "train", "small.txtpb", "run_dir=new", "moe.balance=BIAS",
                    f"train.init_from=own/{step}", ways=self.WAYS[:1])

    def test_damaged_newest_checkpoint(self) -> None:
        self.Train()
        with open(self.Path("run/checkpoints/step-12/model.safetensors"), "r+b") as file:
            file.truncate(1000)
        outcome = self.Train("parallel.ranks=3")
        self.assertRegex(outcome.text, r"(?m)^warning: run/checkpoints/step-12: is no complete checkpoint and is not used: ")
        self.assertIn("continuing from run/checkpoints/step-6", outcome.text)

    def test_what_nobody_reads_at_temperature_zero_is_said(self) -> None:
        self.Train("train.steps=1")
        outcome = self.Run("generate", "small.txtpb", "--prompt=a", "--max_tokens=1", "--top_k=5", "--temperature=0")
        self.assertIn(b"note: --top_k and --top_p", outcome.stderr)
        warm = self.Run("generate", "small.txtpb", "--prompt=a", "--max_tokens=1", "--top_k=5", "--temperature=1")
        self.assertEqual(warm.stderr, b"")

    def test_advice_on_a_lost_loss_names_a_checkpoint_only_if_there_is_one(self) -> None:
        lost = ["train.lr=1e30", "train.warmup_fraction=0", "train.clip=0", "train.min_lr=1e30"]
        self.Expect(["and 3 steps in a row were skipped", "start again: no checkpoint was saved yet"], "train", "small.txtpb", *lost,
                    "train.save_every=0", "train.eval_every=0", ways=self.WAYS[:1])
        self.Train("train.steps=1")
        self.Expect(["and 3 steps in a row were skipped", "go back to step 1, the newest checkpoint in run"], "train", "small.txtpb", *lost,
                    "train.save_every=0", "train.eval_every=0", ways=self.WAYS[:1])

    def test_commands_without_what_they_need(self) -> None:
        self.Expect(["no checkpoint in run/checkpoints", "--checkpoint"], "eval", "small.txtpb")
        self.Expect(["--split=middle"], "eval", "small.txtpb", "--split=middle")
        one: list[Way] = [([], 0)]
        self.Expect(["no checkpoint in run/checkpoints"], "generate", "small.txtpb", "--prompt=a", ways=one)
        self.Expect(["--max_tokens=0"], "generate", "small.txtpb", "--prompt=a", "--max_tokens=0", ways=one)
        self.Expect(["without mpirun"], "generate", "small.txtpb", "--prompt=a", ways=[([], 3)])
        self.Expect(["start it without mpirun"], "tokenize", "--input=a.jsonl", "--output_prefix=a", ways=[([], 3)])
        self.Write("runfile", "a file where the run's folder should be")
        self.Expect(["runfile"], "train", "small.txtpb", "run_dir=runfile")

    def TrainWhileTheDiskFills(self, leave: int, *overrides: str, mpi: int) -> run_harness.Outcome:
        """In disk/run, whose disk has `leave` bytes of room after the first step. It had enough before."""
        shutil.rmtree(self.Path("disk", "run"), ignore_errors=True)
        process = self.Start("train", "small.txtpb", "run_dir=disk/run", "train.eval_every=0", *overrides, mpi=mpi)
        metrics = self.Path("disk", "run", "metrics.jsonl")
        run_harness.WaitUntil(lambda: process.poll() is not None or (os.path.exists(metrics) and os.path.getsize(metrics) > 0),
                              "a step")
        disk = os.statvfs(self.Path("disk"))
        with open(self.Path("disk", "filler"), "wb") as file:
            file.write(b"x" * max(disk.f_bavail * disk.f_frsize - leave, 0))
        outcome = self.Finish(process)
        os.remove(self.Path("disk", "filler"))
        self.assertEqual(outcome.code, 76, outcome)
        return outcome

    def MountDisk(self) -> None:
        os.mkdir(self.Path("disk"))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"unipool", self.Path("disk").encode(), b"tmpfs", 0, b"size=1m") != 0:
            self.skipTest("mounting a small disk needs root")
        self.addCleanup(libc.umount2, self.Path("disk").encode(), 2)

    def test_a_disk_without_room_for_a_checkpoint(self) -> None:
        self.MountDisk()
        self.Write("disk/filler", b"x" * 700_000)
        for overrides, mpi in self.WAYS:
            outcome = self.Train("run_dir=disk/run", *overrides, mpi=mpi, code=76)
            self.assertEqual(outcome.text.count("run_dir disk/run: a checkpoint takes "), 1, outcome)
            self.assertNotIn("step 1", outcome.text)
        os.remove(self.Path("disk", "filler"))
        outcome = self.Train("run_dir=disk/run", "train.keep_checkpoints=3")
        self.assertIn("and up to 4 checkpoints of ", outcome.text)

    def test_full_disk_while_saving(self) -> None:
        self.MountDisk()
        for overrides, mpi in self.WAYS:
            outcome = self.TrainWhileTheDiskFills(500_000, "train.steps=400", "train.save_every=400", "traffic.record=OFF",
                                                  *overrides, mpi=mpi)
            self.assertEqual(outcome.text.count("No space left on device"), 1, outcome)  # ranks with one cause are joined
            self.assertEqual(outcome.text.count("was not saved in disk/run; make room"), 1, outcome)
            self.assertIn("step 400/400", outcome.text)
            self.assertEqual(os.listdir(self.Path("disk", "run", "checkpoints")), [])
        # With room again the run goes on from the beginning.
        self.Train("run_dir=disk/run", "train.save_every=0")
        self.Train()
        self.assertEqual(self.Results("disk/run"), self.Results())

    def test_full_disk_while_writing_metrics(self) -> None:
        self.MountDisk()
        for overrides, mpi in self.WAYS:
            outcome = self.TrainWhileTheDiskFills(8_000, "train.steps=2000", "train.save_every=0", *overrides, mpi=mpi)
            self.assertRegex(outcome.text, r"metrics.jsonl: cannot be written \(No space left on device\); make room")
            self.assertEqual(outcome.text.count("error:"), 1, outcome)


if __name__ == "__main__":
    run_harness.Main(__doc__)
