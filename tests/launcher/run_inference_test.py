#!/usr/bin/env python3
"""The program evaluates and generates from checkpoints, and starts from folders of weights that others have made."""
import json
import os
import random
import shutil
import struct
import subprocess
import unittest

import run_harness
from run_harness import ReadFolder, RunTest, WriteTensors


class InferenceTest(RunTest):
    def setUp(self) -> None:
        super().setUp()
        self.Train("parallel.ranks=2")

    def test_eval_is_the_validation_of_training(self) -> None:
        expected = self.ValidLosses()[12]
        self.assertAlmostEqual(self.EvalLoss(), expected, delta=1e-6)
        self.assertEqual(self.EvalLoss("parallel.ranks=2"), expected)
        self.assertAlmostEqual(self.EvalLoss("parallel.ranks=3"), expected, delta=1e-6)
        self.assertAlmostEqual(self.EvalLoss(mpi=3), expected, delta=1e-6)
        self.assertAlmostEqual(self.EvalLoss("parallel.ranks=2", "parallel.stages=2"), expected, delta=1e-6)
        # A number of sequences that fills no round, on other sizes of microbatches.
        few = self.EvalLoss("--sequences=7")
        self.assertNotEqual(few, expected)
        self.assertAlmostEqual(self.EvalLoss("--sequences=7", "parallel.ranks=3", "train.micro_batch=4"), few, delta=1e-6)
        self.assertAlmostEqual(self.EvalLoss("--checkpoint=run/checkpoints/step-6"), self.ValidLosses()[6], delta=1e-6)

    def test_losses_of_the_sources_of_a_blend(self) -> None:
        self.Write("other.txt", run_harness.SomeText(400, seed=9)[::-1])
        names = ["book.txt", "other.txt"]
        alone = [self.EvalLoss(f"data.valid={name}") for name in names]
        self.assertGreater(abs(alone[0] - alone[1]), 0.1)
        for start in [dict(), dict(mpi=3)]:
            result = json.loads(self.Run("eval", "small.txtpb", "--json", "data.valid=0.25 book.txt,0.75 other.txt", **start).stdout)
            self.assertEqual([entry["source"] for entry in result["by_source"]], names)
            for entry, loss in zip(result["by_source"], alone):
                self.assertAlmostEqual(entry["loss"], loss, delta=1e-6)
            self.assertAlmostEqual(result["loss"], 0.25 * alone[0] + 0.75 * alone[1], delta=1e-6)
        outcome = self.Train("data.valid=0.25 book.txt,0.75 other.txt", "run_dir=blend", "parallel.ranks=2", "train.steps=6")
        line = [line for line in self.Metrics("blend") if "valid_loss" in line][-1]
        by_source = line["valid_loss_by_source"]
        self.assertEqual(list(by_source), names)
        self.assertAlmostEqual(line["valid_loss"], 0.25 * by_source["book.txt"] + 0.75 * by_source["other.txt"], delta=1e-9)
        self.assertIn(f"(book.txt {by_source['book.txt']:.4f}, other.txt {by_source['other.txt']:.4f})", outcome.text)

    def test_eval_for_people_and_for_programs(self) -> None:
        text = self.Run("eval", "small.txtpb").text
        result = json.loads(self.Run("eval", "small.txtpb", "--json").stdout)
        self.assertIn(f"loss {result['loss']:.6f}", text)
        self.assertAlmostEqual(result["perplexity"], 2.718281828459045 ** result["loss"], places=4)
        self.assertEqual(result["checkpoint"], "run/checkpoints/step-12")
        train = self.EvalLoss("--split=train")
        self.assertNotEqual(train, result["loss"])

    def Generate(self, *arguments: str, prompt: str = "the pool") -> bytes:
        return self.Run("generate", "small.txtpb", f"--prompt={prompt}", "--temperature=0", *arguments).stdout

    def test_generate_is_greedy_and_keeps_its_length(self) -> None:
        prompt = b"the pool"
        first = self.Generate("--max_tokens=40")  # longer than the model's context
        self.assertEqual(self.Generate("--max_tokens=40"), first)
        self.assertEqual(len(first), len(prompt) + 40 + 1)
        self.assertTrue(first.startswith(prompt))
        self.assertTrue(first.startswith(self.Generate("--max_tokens=7")[:-1]))
        self.assertEqual(self.Generate("--max_tokens=40", "--temperature=1", "--top_k=1"), first)
        self.assertEqual(self.Generate("--max_tokens=40", "--temperature=1", "--top_p=1e-9"), first)
        # Settings of the layout that trained it do not matter.
        self.assertEqual(self.Generate("--max_tokens=40", "parallel.ranks=4", "train.micro_batch=3"), first)

    def test_generate_samples_by_its_seed(self) -> None:
        def sample(seed: int) -> bytes:
            return self.Generate("--max_tokens=60", "--temperature=1", f"--sample_seed={seed}")
        self.assertEqual(sample(1), sample(1))
        self.assertEqual(len({sample(seed) for seed in range(4)}), 4)

    def test_generate_continues_an_empty_context_with_a_long_prompt(self) -> None:
        prompt = "every token finds one expert and the pool"  # longer than the context of 16
        text = self.Generate("--max_tokens=3", prompt=prompt)
        self.assertEqual(len(text), len(prompt) + 3 + 1)


    def test_generate_without_a_prompt_begins_a_text(self) -> None:
        # Of bytes a text begins behind the end of a line, which is not printed.
        begun = self.Generate("--max_tokens=20", prompt="")
        self.assertEqual(self.Run("generate", "small.txtpb", "--max_tokens=20", "--temperature=0").stdout, begun)
        self.assertEqual(b"\n" + begun, self.Generate("--max_tokens=20", prompt="\n"))
        self.assertEqual(len(begun), 20 + 1)

    def test_results_that_do_not_arrive_are_an_error(self) -> None:
        commands = ["eval small.txtpb", "eval small.txtpb --json", "generate small.txtpb --prompt=a", "info small.txtpb",
                    "metrics", "metrics --json", "verify run", "help", "train small.txtpb --print_config"]
        for command in commands:
            for output, reason in [("> /dev/full", "No space left on device"), (">&-", "Bad file descriptor")]:
                done = subprocess.run(["bash", "-c", f"{run_harness.BINARY} {command} {output}"], cwd=self.folder,
                                      stderr=subprocess.PIPE, check=False, text=True)
                self.assertEqual(done.returncode, 2, command)
                self.assertIn(f"standard output: cannot be written: {reason}", done.stderr, command)

    def test_training_goes_on_without_a_reader_of_its_progress(self) -> None:
        for i, output in enumerate(["> /dev/full", ">&-", "| head -1"]):
            done = subprocess.run(["bash", "-c", f"{run_harness.BINARY} train small.txtpb run_dir=r{i} {output}; "
                                   "exit ${PIPESTATUS[0]}"], cwd=self.folder, stderr=subprocess.PIPE, check=False, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertTrue(os.path.isdir(self.Path(f"r{i}", "checkpoints", "step-12")))


class StartFromWeightsTest(RunTest):
    """Folders of weights are written here, not by the program."""

    def setUp(self) -> None:
        super().setUp()
        self.Train("train.steps=6", "train.lr=1e-2")
        self.tensors = ReadFolder(self.Path("run", "checkpoints", "step-6"))
        self.loss = self.EvalLoss("--checkpoint=run/checkpoints/step-6")

    def WriteShards(self, folder: str, shards: list[list[str]], index: bool) -> None:
        """shards: lists of names, one a file."""
        os.makedirs(self.Path(folder))
        weight_map: dict[str, str] = {}
        for i, names in enumerate(shards):
            file = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
            WriteTensors(self.Path(folder, file), {name: self.tensors[name] for name in names})
            weight_map.update({name: file for name in names})
        if index:
            self.Write(os.path.join(folder, "model.safetensors.index.json"),
                       json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))

    def Shards(self, count: int) -> list[list[str]]:
        names = list(self.tensors)
        random.Random(3).shuffle(names)
        return [names[i::count] for i in range(count)]

    def test_any_number_of_shards(self) -> None:
        self.WriteShards("five", self.Shards(5), index=True)
        self.WriteShards("three", self.Shards(3), index=False)
        for folder in ["five", "three"]:
            self.assertEqual(self.EvalLoss("run_dir=none", f"train.init_from={folder}"), self.loss)
        self.Train("run_dir=a", "train.init_from=five", "parallel.ranks=3")
        self.Train("run_dir=b", "train.init_from=run/checkpoints/step-6", "parallel.ranks=3")
        self.assertEqual(self.Results("a"), self.Results("b"))
        self.assertLess(abs(self.Steps("a")[0]["loss"] - self.loss), 0.3)
        self.assertGreater(self.Steps("run")[0]["loss"] - self.loss, 0.6)

    def test_weights_of_other_types(self) -> None:
        for name, (dtype, shape, data) in list(self.tensors.items()):
            self.assertEqual(dtype, "F32")
            values = struct.unpack(f"<{len(data) // 4}f", data)
            if "experts" in name:
                self.tensors[name] = ("F64", shape, struct.pack(f"<{len(values)}d", *values))
            elif "self_attn" in name:
                self.tensors[name] = ("F16", shape, struct.pack(f"<{len(values)}e", *values))
            elif "embed" in name:  # the upper half of a float
                self.tensors[name] = ("BF16", shape, b"".join(data[i + 2:i + 4] for i in range(0, len(data), 4)))
        self.WriteShards("types", self.Shards(2), index=True)
        loss = self.EvalLoss("run_dir=none", "train.init_from=types")
        self.assertNotEqual(loss, self.loss)
        self.assertAlmostEqual(loss, self.loss, delta=0.02)

    def test_what_does_not_fit_is_named(self) -> None:
        name = "model.layers.1.self_attn.k_proj.weight"
        dtype, shape, data = self.tensors.pop("model.pool.experts.6.up_proj.weight")
        self.tensors["model.layers.9.mlp.gate.weight"] = (dtype, shape, data)
        self.tensors[name] = (self.tensors[name][0], self.tensors[name][1][::-1], self.tensors[name][2])
        self.WriteShards("strange", self.Shards(2), index=True)
        for start in [dict(), dict(mpi=3)]:
            outcome = self.Train("run_dir=none", "train.init_from=strange", code=2, **start)
            for line in ["missing: model.pool.experts.6.up_proj.weight [16,32]",
                         "unknown: model.layers.9.mlp.gate.weight [16,32]",
                         f"misshaped: {name} is [32,16] and must be [16,32]"]:
                self.assertEqual(outcome.text.count(line), 1, f"{line}\n{outcome}")
        self.assertFalse(os.path.exists(self.Path("none", "checkpoints")))

    def test_damaged_folders_are_named(self) -> None:
        self.WriteShards("gone", self.Shards(3), index=True)
        os.remove(self.Path("gone", "model-00002-of-00003.safetensors"))
        self.assertIn("gone/model-00002-of-00003.safetensors", self.Train("train.init_from=gone", "run_dir=n", code=2).text)
        self.WriteShards("cut", self.Shards(2), index=True)
        path = self.Path("cut", "model-00001-of-00002.safetensors")
        with open(path, "r+b") as file:
            file.truncate(os.path.getsize(path) - 8)
        self.assertIn("cut/model-00001-of-00002.safetensors", self.Train("train.init_from=cut", "run_dir=n", code=2).text)
        self.assertIn("nowhere: no such folder", self.Train("train.init_from=nowhere", "run_dir=n", code=2).text)


if __name__ == "__main__":
    run_harness.Main(__doc__)
