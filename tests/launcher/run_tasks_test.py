#!/usr/bin/env python3
"""eval --tasks: the same choices and scores on every layout and in every batch, as an independent count of the same logits
says; what is wrong with files is a sentence."""
import json
import math
import os
from typing import Any

import run_harness
from run_harness import RunTest
from task_items import Lines, ManyItems


class TasksTest(RunTest):
    def setUp(self) -> None:
        super().setUp()
        self.Train("model.seq_length=64", "train.global_batch=4", "train.steps=8", "train.eval_every=0", "train.save_every=8")
        os.makedirs(self.Path("sets"))
        self.items = ManyItems(9)
        for name, items in self.items.items():
            self.Write(f"sets/{name}.jsonl", Lines(items))

    def Eval(self, *arguments: str, mpi: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Results by task, and the samples."""
        out = self.Run("eval", "run", "--json", "--log_samples=samples.jsonl", *arguments, mpi=mpi).stdout
        with open(self.Path("samples.jsonl"), encoding="utf-8") as file:
            return json.loads(out), [json.loads(line) for line in file]

    def All(self) -> str:
        return "--tasks=" + ",".join(self.items)

    def test_layouts_and_batches_give_the_same(self) -> None:
        expected, samples = self.Eval(self.All(), "--task_data=sets")
        self.assertEqual(len(samples), 9 * len(self.items))
        self.assertEqual(set(expected["results"]), set(self.items))
        self.assertTrue(any(sample.get("context_cut") for sample in samples))
        self.assertEqual(expected["results"]["boolq"]["contexts_cut"], sum(sample.get("context_cut", False) for sample in samples
                                                                           if sample["task"] == "boolq"))
        for arguments, mpi in [(["train.micro_batch=1"], 0), (["parallel.ranks=2", "train.micro_batch=5"], 0), ([], 3),
                               (["parallel.stages=2"], 4), (["parallel.stages=3", "parallel.ranks=3"], 0),
                               (["parallel.pool_replicas=2"], 2)]:
            with self.subTest(arguments=arguments, mpi=mpi):
                results, others = self.Eval(self.All(), "--task_data=sets", *arguments, mpi=mpi)
                self.assertEqual(len(others), len(samples))
                for one, other in zip(samples, others, strict=True):
                    for key in one.keys() - {"resps"}:
                        self.assertEqual(one[key], other[key])
                    for a, b in zip(one["resps"], other["resps"], strict=True):
                        self.assertEqual(a[1], b[1])
                        self.assertAlmostEqual(a[0], b[0], delta=1e-5 * abs(a[0]))
                for task, numbers in expected["results"].items():
                    self.assertEqual(numbers["acc,none"], results["results"][task]["acc,none"])

    def test_scores_are_those_of_the_logits(self) -> None:
        """Against eval --logits on the same bytes as a split, and the metrics counted here."""
        results, samples = self.Eval(self.All(), "--task_data=sets")
        sample = next(s for s in samples if s["task"] == "piqa" and not s.get("context_cut"))
        row = "".join(sample["arguments"][0]).encode()
        padded = row + b"x" * (65 - len(row))
        self.Write("row.txt", padded)
        self.Run("eval", "run", "data.valid=row.txt", "--sequences=1", "--logits=logits.safetensors")
        tensors = run_harness.ReadTensors(self.Path("logits.safetensors"))
        logits: Any = memoryview(tensors["logits"][2]).cast("f", [64, 256]).tolist()
        first = len(sample["arguments"][0][0])
        score = sum(logits[t - 1][row[t]] - math.log(sum(math.exp(x) for x in logits[t - 1])) for t in range(first, len(row)))
        self.assertAlmostEqual(score, sample["resps"][0][0], delta=1e-4)
        for task in ["piqa", "arc_easy", "hellaswag"]:
            acc = norm = 0
            own = [s for s in samples if s["task"] == task]
            for s in own:
                scores = [score for score, _ in s["resps"]]
                lengths = [len(continuation) - 1 for _, continuation in s["arguments"]]
                per_character = [score / length for score, length in zip(scores, lengths, strict=True)]
                acc += scores.index(max(scores)) == s["target"]
                norm += per_character.index(max(per_character)) == s["target"]
            self.assertAlmostEqual(results["results"][task]["acc,none"], acc / len(own))
            self.assertAlmostEqual(results["results"][task]["acc_norm,none"], norm / len(own))
        words = [s for s in samples if s["task"] == "lambada"]
        perplexity = math.exp(-sum(s["resps"][0][0] for s in words) / len(words))
        self.assertAlmostEqual(results["results"]["lambada"]["perplexity,none"], perplexity, delta=1e-6 * perplexity)

    def test_limit_and_text(self) -> None:
        results, samples = self.Eval("--tasks=piqa=sets/piqa.jsonl,social_iqa=sets", "--limit=3")
        self.assertEqual([(s["task"], s["doc_id"]) for s in samples], [(t, i) for t in ["piqa", "siqa"] for i in range(3)])
        self.assertEqual(results["n-samples"]["piqa"], {"original": 9, "effective": 3})
        text = self.Run("eval", "run", self.All(), "--task_data=sets").stdout.decode()
        for part in ["items a second", "chance", "0.2500", "contexts longer than the model sees"]:
            self.assertIn(part, text)

    def Validations(self, run_dir: str) -> list[dict[str, Any]]:
        with open(self.Path(f"{run_dir}/metrics.jsonl"), encoding="utf-8") as file:
            return [line for line in map(json.loads, file) if "valid_loss" in line]

    def test_training_scores_the_same_items_as_eval(self) -> None:
        fields = ["model.seq_length=64", "train.global_batch=4", "train.steps=6", "train.save_every=3", "train.eval_batches=2"]
        tasks = "train.eval_tasks=" + ",".join(f"{name}=sets/{name}.jsonl" for name in self.items)
        self.Train(*fields, "train.eval_every=3", "train.keep_checkpoints=0", "run_dir=plain")
        told = self.Train(*fields, "train.eval_every=3", "train.keep_checkpoints=0", "run_dir=scored", tasks, "train.eval_task_items=5")
        self.assertIn("  piqa ", told.text)
        plain, scored = self.Validations("plain"), self.Validations("scored")
        self.assertEqual([line["step"] for line in scored], [3, 6])
        # Validations that score tasks change nothing of the training.
        self.assertEqual([line["valid_loss"] for line in plain], [line["valid_loss"] for line in scored])
        self.assertNotIn("task_acc", plain[0])
        for line in scored:
            out = self.Run("eval", f"scored/checkpoints/step-{line['step']}", "--json", self.All(), "--task_data=sets", "--limit=5").stdout
            results = json.loads(out)["results"]
            self.assertEqual(line["task_acc"], {task: numbers["acc,none"] for task, numbers in results.items()})
            self.assertEqual(line["task_acc_norm"], {task: numbers["acc_norm,none"] for task, numbers in results.items()
                                                     if "acc_norm,none" in numbers})
            self.assertAlmostEqual(line["task_perplexity"]["lambada"] / results["lambada"]["perplexity,none"], 1, delta=1e-5)
        # Another layout.
        self.Train(*fields, "train.eval_every=3", "run_dir=staged", tasks, "train.eval_task_items=5", "parallel.stages=2", mpi=2)
        for line, other in zip(scored, self.Validations("staged"), strict=True):
            self.assertAlmostEqual(line["task_perplexity"]["lambada"] / other["task_perplexity"]["lambada"], 1, delta=1e-4)
            self.assertEqual(line["task_acc"].keys(), other["task_acc"].keys())

    def test_mistakes_of_training_are_sentences(self) -> None:
        self.Write("bad.jsonl", Lines([{"goal": "a", "sol1": "b", "sol2": "c", "label": 2}]))
        for sentence, arguments in [
                ("bad.jsonl, line 1: its \"label\" is 2; must be 0 to 1 (task piqa)", ["train.eval_tasks=piqa=bad.jsonl"]),
                ("task \"race\": there is no such task", ["train.eval_tasks=race=bad.jsonl"]),
                ("train.eval_tasks: validations score them, and there are none", ["train.eval_tasks=piqa=bad.jsonl", "train.eval_every=0"]),
                ("train.eval_task_items: is 0; must be 1 or more", ["train.eval_tasks=piqa=bad.jsonl", "train.eval_task_items=0"])]:
            outcome = self.Train(*arguments, code=2)
            self.assertIn(sentence, outcome.text)
            self.assertEqual(outcome.text.count(sentence), 1)

    def Refuse(self, sentence: str, *arguments: str, mpi: int = 0) -> None:
        outcome = self.Run("eval", "run", *arguments, mpi=mpi, code=2)
        self.assertIn(sentence, outcome.text, arguments)
        self.assertEqual(outcome.text.count(sentence), 1)
        for sign in run_harness.SIGNS_OF_A_BUG:
            self.assertNotIn(sign, outcome.text, arguments)

    def test_mistakes_are_sentences(self) -> None:
        self.Write("bad.jsonl", Lines([self.items["piqa"][0], {"goal": "a", "sol1": "b", "sol2": "c", "label": 2}]))
        self.Refuse('bad.jsonl, line 2: its "label" is 2; must be 0 to 1 (task piqa)', "--tasks=piqa=bad.jsonl")
        self.Refuse('bad.jsonl, line 1: has no field "passage" (task boolq)', "--tasks=boolq=bad.jsonl", mpi=2)
        self.Write("long.jsonl", Lines([{"goal": "a", "sol1": "b" * 80, "sol2": "c", "label": 1}]))
        self.Refuse("long.jsonl, line 1: a choice has 81 tokens, more than the 64 that the model sees", "--tasks=piqa=long.jsonl")
        self.Write("empty.jsonl", Lines([{"goal": "a", "sol1": " ", "sol2": "c", "label": 1}]))
        self.Refuse('line 1: its "sol1" is empty', "--tasks=piqa=empty.jsonl")
        self.Write("cut.jsonl", '{"goal": "a", ')
        self.Refuse("cut.jsonl, line 1: is not JSON", "--tasks=piqa=cut.jsonl")
        self.Refuse('task "race": there is no such task', "--tasks=race=bad.jsonl")
        self.Refuse("none.jsonl: does not exist", "--tasks=piqa=none.jsonl")
        self.Refuse("--limit: goes with --tasks", "--limit=3")
        self.Refuse("--limit=-1: must be 0", "--tasks=piqa=bad.jsonl", "--limit=-1")
        self.Refuse("--sequences is of a split", "--tasks=piqa=bad.jsonl", "--sequences=3")
        self.Refuse("there is no folder nowhere", "--tasks=piqa=bad.jsonl", "--log_samples=nowhere/samples")
        self.Refuse("is no file of task samples", "--tasks=piqa", "--task_data=sets", "--log_samples=book.txt")
        self.Write("gpt2.tokenizer.json", "{}")
        self.Refuse("gpt2.tokenizer.json", "--tasks=piqa", "--task_data=sets", "--tokenizer=gpt2.tokenizer.json")


if __name__ == "__main__":
    run_harness.Main(__doc__)
