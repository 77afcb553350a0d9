#!/usr/bin/env python3
"""Scores of `eval --tasks` and of `serve` beside lm-evaluation-harness's for the same items and weights: the same choices, and
log-probabilities within 1e-3. All nine tasks on made-up items, by the harness's own rules; with the corpora also the beginnings
of LAMBADA and HellaSwag.

Usage: harness_test.py SOURCE_DIR UNIPOOL      UNIPOOL_HARNESS_PYTHON: a Python that has lm_eval, torch and transformers (default:
this one). UNIPOOL_HARNESS_ITEMS: so many items of each corpus (default 20).
Skipped by name, with exit status 77, where there is no such Python.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from typing import Any

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "launcher"))
from task_items import Lines, ManyItems  # noqa: E402

PYTHON = os.environ.get("UNIPOOL_HARNESS_PYTHON", sys.executable)
ITEMS = int(os.environ.get("UNIPOOL_HARNESS_ITEMS", "20"))
BOUND = 1e-3
YAMLS = {"lambada": "lambada/lambada_openai.yaml", "hellaswag": "hellaswag/hellaswag.yaml", "piqa": "piqa/piqa.yaml",
         "arc_easy": "arc/arc_easy.yaml", "arc_challenge": "arc/arc_challenge.yaml", "winogrande": "winogrande/default.yaml",
         "boolq": "super_glue/boolq/default.yaml", "openbookqa": "openbookqa/openbookqa.yaml", "siqa": "siqa/siqa.yaml"}
CLEAN_HELLASWAG = {"process_docs": None, "doc_to_text": "{{ctx}}", "doc_to_target": "{{label}}", "doc_to_choice": "{{endings}}"}
SIZES = ["model.layers=2", "model.hidden=64", "model.seq_length=256", "moe.experts=6", "moe.width=64", "moe.top_k=2",
         "model.init_std=0.05", "train.global_batch=4", "train.micro_batch=2", "train.steps=20", "train.eval_every=0",
         "train.save_every=0", "parallel.ranks=1"]


class HarnessTest(unittest.TestCase):
    root, program = ".", "unipool"

    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="unipool-harness-")
        self.addCleanup(shutil.rmtree, self.folder)

    def Path(self, *parts: str) -> str:
        return os.path.join(self.folder, *parts)

    def Run(self, *command: str) -> str:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_HOME": self.Path("cache")}
        done = subprocess.run(command, cwd=self.folder, capture_output=True, check=False, env=environment)
        self.assertEqual(0, done.returncode, f"{' '.join(command)}\n{done.stderr.decode(errors='replace')[-3000:]}")
        return done.stdout.decode()

    def Make(self, *settings: str) -> None:
        self.Run(self.program, "train", os.path.join(self.root, "configs/demo.txtpb"), *SIZES, *settings, "run_dir=run")
        self.Run(self.program, "export", "run", "--out=exported")

    def Serve(self) -> str:
        server = subprocess.Popen([self.program, "serve", "run", "--port=0"], cwd=self.folder, stdout=subprocess.PIPE)

        def End() -> None:
            server.terminate()
            self.assertEqual(0, server.wait(timeout=10))
            assert server.stdout
            server.stdout.close()
        self.addCleanup(End)
        assert server.stdout
        found = re.search(r"http://\S+/v1/completions", server.stdout.readline().decode())
        assert found
        return found[0]

    def Compare(self, tasks: dict[str, list[Any]]) -> None:
        """tasks: yaml, file, replaced keys of each."""
        begin = time.monotonic()
        named = ",".join(f"{task}={file}" for task, (_, file, _) in tasks.items())
        own = json.loads(self.Run(self.program, "eval", "run", "--json", "--log_samples=own.jsonl", f"--tasks={named}"))
        seconds = time.monotonic() - begin
        with open(self.Path("own.jsonl"), encoding="utf-8") as file:
            samples = [json.loads(line) for line in file]
        with open(self.Path("tasks.json"), "w", encoding="utf-8") as file:
            json.dump(tasks, file)
        for model in ("exported", f"{self.Serve()},exported"):
            self.Run(PYTHON, os.path.join(self.root, "tests/harness/harness_scores.py"), model, "tasks.json", "theirs.json")
            with open(self.Path("theirs.json"), encoding="utf-8") as file:
                theirs = json.load(file)
            way = "server" if model.startswith("http") else "transformers"
            print(f"lm_eval {theirs['version']} through {way}: {len(samples)} items in {theirs['seconds']:.1f} s; unipool eval, "
                  f"with start and reading, {seconds:.1f} s, {own['items_per_second']:.0f} items a second")
            for task in tasks:
                with self.subTest(f"{task} through {way}"):
                    self.CompareTask([s for s in samples if s["task"] == task], theirs["samples"][task])
                    for metric in ("acc,none", "acc_stderr,none", "acc_norm,none", "acc_norm_stderr,none", "perplexity,none"):
                        if metric not in theirs["results"][task]:
                            continue
                        expected = theirs["results"][task][metric]
                        self.assertAlmostEqual(own["results"][task][metric], expected, delta=BOUND * expected, msg=metric)

    def CompareTask(self, own: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
        self.assertEqual(len(own), len(theirs))
        self.assertGreater(len(own), 0)
        worst = 0.0
        for ours, other in zip(own, theirs, strict=True):
            self.assertEqual(ours["arguments"], other["arguments"])
            self.assertEqual([greedy for _, greedy in ours["resps"]], other["is_greedy"])
            self.assertEqual(ours["acc"], other["acc"])
            self.assertEqual(ours.get("acc_norm"), other["acc_norm"])
            worst = max([worst] + [abs(a[0] - b) for a, b in zip(ours["resps"], other["scores"], strict=True)])
        print(f"{own[0]['task']}: {len(own)} items, log-probabilities within {worst:.1e}")
        self.assertLess(worst, BOUND)

    def test_all_tasks_on_bytes(self) -> None:
        items = ManyItems(12)
        items["arc_challenge"] = items["arc_easy"][::-1]
        tasks = {}
        for name, entries in items.items():
            file = self.Path(name + ".jsonl")
            with open(file, "w", encoding="utf-8") as out:
                out.write(Lines(entries))
            tasks[name] = [YAMLS[name], file, {}]
        with open(self.Path("text.txt"), "w", encoding="utf-8") as out:
            out.write("every token finds one of the experts of the pool that layers share\n" * 300)
        self.Make("data.train=text.txt", "train.lr=3e-3")
        self.Compare(tasks)

    def test_corpora_in_gpt2s_tokens(self) -> None:
        data = os.environ.get("UNIPOOL_TEST_DATA", os.path.join(self.root, "../shared/data"))
        files = {name: os.path.join(data, name) for name in
                 ("lambada-dev.jsonl", "hellaswag-dev.jsonl", "pile-sample.jsonl", "gpt2-vocab.json", "gpt2-merges.txt")}
        for name, path in files.items():
            if not os.path.exists(path):
                self.skipTest(f"{name} is not on this machine")
        tasks = {}
        for name, replaced in (("lambada", {}), ("hellaswag", CLEAN_HELLASWAG)):
            with open(files[f"{name}-dev.jsonl"], encoding="utf-8") as file:
                lines = [line for line, _ in zip(file, range(ITEMS), strict=False)]
            with open(self.Path(name + ".jsonl"), "w", encoding="utf-8") as out:
                out.writelines(lines)
            tasks[name] = [YAMLS[name], self.Path(name + ".jsonl"), replaced]
        self.Run(self.program, "tokenize", f"--input={files['pile-sample.jsonl']}", "--output_prefix=pile", "--tokenizer=gpt2",
                 f"--vocab={files['gpt2-vocab.json']}", f"--merges={files['gpt2-merges.txt']}")
        self.Make("data.train=pile_text_document", "model.vocab=50257", "train.steps=3", "train.micro_batch=1")
        self.Compare(tasks)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    HarnessTest.root, HarnessTest.program = map(os.path.abspath, sys.argv[1:3])
    probe = "import lm_eval.models.huggingface, lm_eval.models.openai_completions, torch, transformers"
    if subprocess.run([PYTHON, "-c", probe], capture_output=True, check=False).returncode != 0:
        print(f"skipped: {PYTHON} has no lm_eval with torch and transformers; name one that has in UNIPOOL_HARNESS_PYTHON")
        sys.exit(77)
    unittest.main(argv=[sys.argv[0]] + sys.argv[3:], verbosity=2)
