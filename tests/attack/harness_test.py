#!/usr/bin/env python3
"""Does the attack see what it is made to see? Programs that play the part of one that crashes, hangs, forgets, invents.

Usage: harness_test.py SOURCE_DIR
"""
from __future__ import annotations

import json
import math
import os
import random
import stat
import struct
import sys
import tempfile
import unittest
import unittest.mock

SOURCE = sys.argv.pop(1) if len(sys.argv) > 1 else "."
sys.path.insert(0, os.path.join(SOURCE, "tools", "attack"))
sys.dont_write_bytecode = True
from cases import Applied, Case, EditsBetween, Try  # noqa: E402
from damages import EDITS, AllCases  # noqa: E402
from mutations import JSON, LINES, TENSORS, TEXT  # noqa: E402
from program import Curve, Ending, Program  # noqa: E402
from targets import Fields  # noqa: E402


BAD_ENDS = {
    "kill -SEGV $$": "crash",
    "exit 134": "crash",
    "echo 'Check failed: a'; exit 2": "crash",
    "echo 'ERROR: AddressSanitizer: heap'; exit 0": "crash",
    "exit 2": "refused without a sentence",
    "rm run/metrics.jsonl": "history lost",
    "echo '{\"step\":1}' > run/metrics.jsonl": "history lost",
    "echo '{\"st' >> run/metrics.jsonl": "half-written",
    "echo '{\"loss\":nan}' >> run/metrics.jsonl": "half-written",
    "mkdir -p run/checkpoints/step-3.partial": "half-written",
}
KINDS = ("model", "optimizer")
FILES = ["config.json", "config.txtpb", *(f"{kind}-0000{i}-of-00004.safetensors" for kind in KINDS for i in range(1, 5)),
         "model.safetensors.index.json", "training_state.json"]


class HarnessTest(unittest.TestCase):
    def setUp(self) -> None:
        holder = tempfile.TemporaryDirectory(prefix="unipool-harness-")
        self.addCleanup(holder.cleanup)
        self.folder, self.seeds = os.path.join(holder.name, "case"), os.path.join(holder.name, "seeds")
        os.makedirs(os.path.join(self.seeds, "run"))
        self.player = os.path.join(holder.name, "player")
        with open(os.path.join(self.seeds, "run", "metrics.jsonl"), "w", encoding="utf-8") as file:
            file.write('{"step":1,"loss":2.5,"step_seconds":0.1}\n')

    def Play(self, script: str, *command: str, limit_seconds: float = 5, **expected: str) -> str:
        """What the attack says of a program that does this."""
        with open(self.player, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/bash\n{script}\n")
        os.chmod(self.player, stat.S_IRWXU)
        case = Case("played", list(command) or ["train"], limit_seconds=limit_seconds, **expected)  # type: ignore[arg-type]
        return Try(Program(self.player), case, self.seeds, self.folder)[0]

    def test_good_ends_are_no_findings(self) -> None:
        self.assertEqual(self.Play("exit 0"), "")
        self.assertEqual(self.Play("echo 'error: x: is wrong'; exit 2", expect="refused", says="x: is"), "")
        self.assertEqual(self.Play("exit 75"), "")

    def test_bad_ends_are_findings(self) -> None:
        for script, found in BAD_ENDS.items():
            self.assertTrue(self.Play(script).startswith(found), f"{script}: {self.Play(script)!r}")
        self.assertIn("instead of refused", self.Play("exit 0", expect="refused"))
        self.assertIn("does not say", self.Play("echo 'error: a'; exit 2", says="b"))
        self.assertIn("no number", self.Play("echo loss -nan", "eval"))
        self.assertIn("half-written", self.Play("echo x > out.bin.part; echo 'error: x'; exit 2", "tokenize"))

    def test_what_is_stuck_is_told_from_what_is_long(self) -> None:
        moving = "while true; do echo '{\"step\":2}' >> run/metrics.jsonl; sleep 0.1; done"
        self.assertEqual(self.Play(moving, limit_seconds=0.5), "")
        with unittest.mock.patch("cases.MOVED_WITHIN_SECONDS", 0.2):
            self.assertIn("hang", self.Play("sleep 60", limit_seconds=0.5))

    def test_curve_leaves_out_times_alone(self) -> None:
        run = os.path.join(self.seeds, "run")
        self.assertEqual(Curve(run), [{"step": 1, "loss": 2.5}])

    def test_changes_are_repeated_from_their_words(self) -> None:
        choose = random.Random(5)
        numbers = struct.pack("<4f", 1, 2, 3, 4)
        header = json.dumps({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
        tensors = struct.pack("<Q", len(header)) + header + numbers
        for mutations, data in ((TEXT, b"a { b: 1 }\nc: 2\n"), (JSON, b'{"a": [1, {"b": "c"}]}'),
                                (LINES, b'{"a": 1}\n{"b": 2}\n'), (TENSORS, tensors)):
            changed = 0
            for _ in range(400):
                new = choose.choice(mutations)(data, choose)
                change = json.loads(json.dumps({"edits": EditsBetween(data, new)}))
                self.assertEqual(Applied(data, change), new)
                changed += new != data
            self.assertGreater(changed, 300)
        planted = Applied(tensors, {"number": ["w", 2, "nan"]})
        self.assertEqual((planted[:-8], planted[-4:]), (tensors[:-8], tensors[-4:]))
        self.assertTrue(math.isnan(struct.unpack("<f", planted[-8:-4])[0]))
        case = Case("x", ["train"], {"a": {"text": "\xff\0"}}, expect="done")
        self.assertEqual(Case.FromJson(case.ToJson()), case)

    def test_damages_are_many_and_change_their_file(self) -> None:
        cases = [case.name for case in AllCases(FILES)]
        self.assertGreaterEqual(len(cases), 200)
        self.assertEqual(len(cases), len(set(cases)))
        header = b'{"w":' + b" " * 100 + b"}"
        data = struct.pack("<Q", len(header)) + header + bytes(range(1, 251)) * 40
        for name, edit in EDITS.items():
            self.assertNotEqual(edit(bytearray(data), random.Random(name)), data, name)

    def test_settings_are_read_from_the_schema(self) -> None:
        fields = Fields(os.path.join(SOURCE, "configs", "config.proto"))
        self.assertLess({"run_dir", "model.layers", "train.save_every", "parallel.layers_per_stage"}, set(fields))

    def test_verdicts(self) -> None:
        self.assertEqual(Ending(0, "what(): x", 1).verdict, "crash")
        self.assertEqual(Ending(-9, "", 1).verdict, "crash")
        self.assertEqual(Ending(3, "error: stuck", 1).verdict, "exit 3")


if __name__ == "__main__":
    unittest.main(verbosity=2)
