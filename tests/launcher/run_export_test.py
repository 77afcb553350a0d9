#!/usr/bin/env python3
"""`export` as people use it: what lies in the folder, what is refused, and that nothing is left half-written. What transformers
makes of it: tests/huggingface_test.py."""
import json
import os
import resource
import struct
import subprocess

import run_harness
from run_harness import ReadFolder, ReadTensors, RunTest

ALWAYS = ["README.md", "config.json", "export.json", "generation_config.json", "model.safetensors", "tokenizer.json",
          "tokenizer_config.json", "unipool.txtpb"]
CODE = ["configuration_unipool.py", "modeling_unipool.py"]


class ExportTest(RunTest):
    def Json(self, *path: str) -> dict[str, object]:
        with open(self.Path(*path), encoding="utf-8") as file:
            content: dict[str, object] = json.load(file)
        return content

    def Refuse(self, sentence: str, *arguments: str, mpi: int = 0) -> None:
        before = sorted(os.listdir(self.folder))
        outcome = self.Run("export", *arguments, mpi=mpi, code=2)
        self.assertIn(sentence, outcome.text, arguments)
        self.assertEqual(sorted(os.listdir(self.folder)), before, arguments)
        for sign in run_harness.SIGNS_OF_A_BUG:
            self.assertNotIn(sign, outcome.text, arguments)

    def test_a_pool_goes_with_its_code(self) -> None:
        self.Train("parallel.ranks=2", "model.vocab_multiple=100")
        outcome = self.Run("export", "run", "--out=out")
        self.assertIn("UniPoolForCausalLM, since moe.sharing is GLOBAL", outcome.text)
        self.assertEqual(sorted(os.listdir(self.Path("out"))), sorted(ALWAYS + CODE))
        here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../models/huggingface")
        for name in CODE:
            with open(self.Path("out", name), "rb") as mine, open(os.path.join(here, name), "rb") as theirs:
                self.assertEqual(mine.read(), theirs.read(), name)
        saved, exported = ReadFolder(self.Path("run/checkpoints/step-12")), ReadFolder(self.Path("out"))
        for name, (dtype, shape, data) in saved.items():
            if name.startswith(("optimizer", "exp_avg", "state")):
                continue
            if name in ("model.embed_tokens.weight", "lm_head.weight"):
                self.assertEqual(shape, [300, 32])
                shape, data = [256, 32], data[:256 * 32 * 4]
            self.assertEqual(exported.pop(name), (dtype, shape, data), name)
        self.assertEqual(sorted(exported), [f"model.layers.{layer}.mlp.router.visible" for layer in range(3)])
        self.assertEqual(self.Json("out/config.json")["vocab_size"], 256)
        self.assertEqual(self.Json("out/export.json")["source"], "run/checkpoints/step-12")

    def test_architectures_and_their_obstacles(self) -> None:
        self.Train("moe.sharing=PRIVATE", "moe.router=SOFTMAX", "moe.experts=6", "moe.router_constant=0", "train.steps=1")
        self.Refuse("--as=llama: LlamaForCausalLM would compute something else: moe.sharing is PRIVATE", "run", "--out=out", "--as=llama")
        self.Refuse("--as=mixtral: must be llama, qwen2_moe or unipool", "run", "--out=out", "--as=mixtral")
        self.assertIn("Qwen2MoeForCausalLM, since", self.Run("export", "run", "--out=qwen").text)
        self.assertEqual(sorted(os.listdir(self.Path("qwen"))), sorted(ALWAYS))
        self.assertIn("UniPoolForCausalLM, since --as asked", self.Run("export", "run", "--out=pool", "--as=unipool").text)
        self.Train("moe.sharing=DENSE", "moe.experts=3", "moe.balance=NONE", "moe.router_constant=0", "train.steps=1", "run_dir=dense")
        self.assertIn("LlamaForCausalLM, since", self.Run("export", "dense", "--out=llama", "--shard_gigabytes=1e-5").text)
        index = self.Json("llama/model.safetensors.index.json")["weight_map"]
        assert isinstance(index, dict)
        self.assertGreater(len(set(index.values())), 3)
        self.assertEqual(sorted(ReadFolder(self.Path("llama"))), sorted(index))

    def test_weights_in_bf16_are_rounded_to_the_nearest(self) -> None:
        self.Train("train.steps=3")
        self.Run("export", "run", "--out=whole")
        self.assertIn("bytes\n", self.Run("export", "run", "--out=half", "--dtype=bf16").text)
        self.assertEqual(self.Json("half/config.json")["dtype"], "bfloat16")
        whole, half = ReadFolder(self.Path("whole")), ReadFolder(self.Path("half"))
        self.assertEqual(whole.keys(), half.keys())
        digests = self.Json("half/export.json")["tensors"]
        assert isinstance(digests, dict)
        for name, (dtype, _, data) in half.items():
            self.assertEqual("F32" if ".router." in name else "BF16", dtype, name)
            self.assertEqual(dtype, digests[name]["dtype"])
            if dtype == "F32":
                self.assertEqual(whole[name][2], data)
                continue
            for bits, rounded in zip(struct.unpack(f"<{len(data) // 2}I", whole[name][2]), struct.unpack(f"<{len(data) // 2}H", data)):
                rest = bits & 0xffff
                up = rest > 0x8000 or (rest == 0x8000 and bits >> 16 & 1)
                self.assertEqual((bits >> 16) + up, rounded, name)

    def test_gpt2s_tokenizer_goes_along(self) -> None:
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        alphabet = [*map(chr, printable), *(chr(256 + i) for i in range(256 - len(printable)))]
        blank = chr(256 + 32)  # the 33rd byte that is not printable
        self.Write("vocab.json", json.dumps({token: i for i, token in enumerate([*alphabet, "th", blank + "t", "<|endoftext|>"])}))
        self.Write("merges.txt", f"#version: 0.2\nt h\n{blank} t\n".encode())
        with open(self.Path("book.txt")) as file:
            self.Write("book.jsonl", json.dumps({"text": file.read()}) + "\n")
        self.Run("tokenize", "--input=book.jsonl", "--output_prefix=book", "--tokenizer=gpt2", "--vocab=vocab.json", "--merges=merges.txt")
        self.Train("data.train=book_text_document", "model.vocab=259", "train.steps=2", "data.split=100,0,0", "train.eval_every=0")
        self.Run("export", "run", "--out=out")
        self.assertEqual(self.Json("out/tokenizer.json"), self.Json("book_text_document.tokenizer.json"))
        self.assertEqual([258] * 3, [self.Json("out/config.json")[f"{name}_token_id"] for name in ("bos", "eos", "pad")])
        self.assertEqual("<|endoftext|>", self.Json("out/tokenizer_config.json")["eos_token"])
        self.assertEqual(258, self.Json("out/generation_config.json")["eos_token_id"])
        told = json.loads(self.Run("import", "out", "--as=pool", "--out=back", "--json").stdout)
        self.assertIn("gpt2, 259 tokens", told["tokenizer"])
        self.assertIn("the", self.Run("generate", "back", "--prompt=the", "--max_tokens=4").text)

    def test_what_cannot_be_exported(self) -> None:
        self.Refuse("no checkpoint in run/checkpoints", "small.txtpb", "--out=out")
        self.Train("train.steps=1")
        os.mkdir(self.Path("there"))
        self.Refuse("--out=there: exists already", "run", "--out=there")
        self.Refuse("--out DIR is missing", "run")
        self.Refuse("--format=gguf: must be hf", "run", "--out=out", "--format=gguf")
        self.Refuse("--dtype=fp16: must be fp32 or bf16", "run", "--out=out", "--dtype=fp16")
        self.Refuse("--shard_gigabytes=0: must be above 0", "run", "--out=out", "--shard_gigabytes=0")
        self.Refuse("no folder can be made there", "run", "--out=nowhere/out")
        self.Refuse("runs on one rank", "run", "--out=out", mpi=2)
        self.Write("run/checkpoints/step-1/tokenizer.json", "{}")
        self.Refuse("tokenizer.json: has 2 bytes", "run/checkpoints/step-1", "--out=out")

    def test_a_full_disk_leaves_nothing(self) -> None:
        self.Train("train.steps=1")
        done = subprocess.run([run_harness.BINARY, "export", "run", "--out=out"], cwd=self.folder, capture_output=True, check=False,
                              timeout=60, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)))
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(b"model.safetensors", done.stderr)
        self.assertEqual([name for name in os.listdir(self.folder) if name.startswith("out")], [])

    def test_logits_are_those_of_the_evaluated_text(self) -> None:
        self.Train("train.steps=6")
        arguments = ["eval", "run", "--sequences=3", "parallel.ranks=1", "--json"]
        loss = json.loads(self.Run(*arguments, "--logits=logits.safetensors").stdout)["loss"]
        self.assertEqual(json.loads(self.Run(*arguments).stdout)["loss"], loss)
        tensors = ReadTensors(self.Path("logits.safetensors"))
        self.assertEqual({name: (dtype, shape) for name, (dtype, shape, _) in tensors.items()},
                         {"tokens": ("I32", [3, 16]), "logits": ("F32", [3, 16, 256])})
        for sentence, more in [("exists already", ["--logits=logits.safetensors"]), ("needs one rank", ["--logits=x", "parallel.ranks=2"]),
                               ("needs --sequences", ["--logits=x", "--sequences=0"])]:
            self.assertIn(sentence, self.Run(*arguments, *more, code=2).text)
        self.assertFalse(os.path.exists(self.Path("x")))


if __name__ == "__main__":
    run_harness.Main(__doc__)
