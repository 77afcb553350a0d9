#!/usr/bin/env python3
"""tools/torch/torch_unipool.py is the same model as this program's: from the same weights, on the same samples, in fp32 on
the CPU, both have the same losses and gradient norms; and a model that differs in one setting does not.

Usage: torch_comparison_test.py SOURCE_DIR UNIPOOL      UNIPOOL_TORCH_PYTHON: a Python that has PyTorch (default: this one)
Skipped by name, with exit status 77, where there is no PyTorch.
"""
import array
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import unittest

STEPS, BATCH, LENGTH = 10, 8, 48
BOUND = 1e-5  # of losses; 1e-7 to 2e-7 is what is seen
SIZES = ["model.layers=3", "model.hidden=64", "moe.width=96", f"model.seq_length={LENGTH}", f"train.global_batch={BATCH}",
         "train.micro_batch=4", f"train.steps={STEPS}", "train.eval_every=0", "train.save_every=0"]
MODELS = {
    "one pool": ["moe.balance_coeff=3e-3", "moe.router_constant=2.8"],
    "one pool, two experts a token, padding": ["moe.top_k=2", "moe.router_constant=1.9", "model.vocab_multiple=100"],
    "one pool, positive choices counted, hinge": ["moe.experts=6", "moe.top_k=2", "moe.router_constant=1.9", "moe.balance_counts=POSITIVE",
                                                  "moe.balance_hinge=true", "moe.balance_coeff=0.1", "model.init_std=0.05"],
    "private experts": ["moe.sharing=PRIVATE", "moe.experts=12", "moe.router=SOFTMAX", "moe.balance=LAYER_LOSS"],
}
Loss = tuple[float, float]  # loss and gradient norm of a step
PYTHON = os.environ.get("UNIPOOL_TORCH_PYTHON", sys.executable)


class TorchComparisonTest(unittest.TestCase):
    root, program = ".", "unipool"

    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="unipool-torch-")
        self.addCleanup(shutil.rmtree, self.folder)
        seed = random.SystemRandom().randrange(1 << 32)
        print(f"text of seed {seed}")
        choose = random.Random(seed)
        words = ["".join(choose.choices("abcdefghijklmnopqrstuvwxyz", k=2 + i % 7)) for i in range(200)]
        text = " ".join(choose.choices(words, weights=range(200, 0, -1), k=3000)).encode()
        with open(os.path.join(self.folder, "text.txt"), "wb") as file:
            file.write(text)
        samples = array.array("i")
        for sample in range(STEPS * BATCH):
            samples.extend(text[sample * LENGTH:sample * LENGTH + LENGTH + 1])
        with open(os.path.join(self.folder, "samples"), "wb") as file:
            samples.tofile(file)

    def Run(self, *command: str) -> str:
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False,
                              env={**os.environ, "OMP_NUM_THREADS": "1"})
        self.assertEqual(0, done.returncode, f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        return done.stdout

    def Ours(self, run_dir: str, *settings: str) -> list[Loss]:
        self.Run(self.program, "train", os.path.join(self.root, "configs/demo.txtpb"), *SIZES, "data.train=text.txt",
                 "data.split=1,0,0", "data.order=SEQUENTIAL", "parallel.ranks=1", f"run_dir={run_dir}", *settings)
        with open(os.path.join(self.folder, run_dir, "metrics.jsonl"), encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        return [(line["loss"], line["grad_norm"]) for line in lines]

    def Torch(self, *arguments: str) -> list[Loss]:
        output = self.Run(PYTHON, os.path.join(self.root, "tools/torch/torch_unipool.py"),
                          os.path.join(self.root, "configs/demo.txtpb"), *SIZES, "--samples", "samples", "--init",
                          "first/checkpoints/step-1", "--steps", str(STEPS), "--device", "CPU", *arguments)
        result = json.loads(output)
        self.assertEqual([], result["notes"])
        return list(zip(result["losses"], result["grad_norms"], strict=True))

    def Difference(self, ours: list[Loss], torch: list[Loss], which: int) -> float:
        self.assertEqual(STEPS, len(ours))
        return max(abs(a[which] - b[which]) / a[which] for a, b in zip(ours, torch, strict=True))

    def test_same_weights_and_samples_give_the_same_losses(self) -> None:
        for name, settings in MODELS.items():
            with self.subTest(name):
                for folder in ("first", "run"):
                    shutil.rmtree(os.path.join(self.folder, folder), ignore_errors=True)
                self.Ours("first", *settings, "train.steps=1")
                ours = self.Ours("run", *settings, "train.init_from=first/checkpoints/step-1")
                self.assertLess(ours[-1][0], ours[0][0] - 0.1, "nothing was learned")
                for gradients in ("TOGETHER", "PER_LAYER"):
                    torch = self.Torch(*settings, "--weight_grads", gradients)
                    loss, norm = (self.Difference(ours, torch, which) for which in (0, 1))
                    print(f"{name}, {gradients}: losses within {loss:.1e}, gradient norms within {norm:.1e}")
                    self.assertLess(loss, BOUND)
                    self.assertLess(norm, 10 * BOUND)
                others = {"one pool": ["moe.balance=NONE", "train.weight_decay=0.5"],
                          "one pool, positive choices counted, hinge": ["moe.balance_counts=ALL", "moe.balance_hinge=false"]}
                for other in others.get(name, []):
                    self.assertGreater(self.Difference(ours, self.Torch(*settings, other), 0), BOUND, other)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    TorchComparisonTest.program = os.path.abspath(sys.argv.pop(2))
    TorchComparisonTest.root = os.path.abspath(sys.argv.pop(1))
    if subprocess.run([PYTHON, "-c", "import torch.nn"], capture_output=True, check=False).returncode != 0:
        print("[  SKIPPED ] TorchComparison.SameWeightsAndSamplesGiveTheSameLosses (0 ms)")
        print("PyTorch is not installed; UNIPOOL_TORCH_PYTHON names a Python that has it")
        sys.exit(77)
    unittest.main()
