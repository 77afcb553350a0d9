#!/usr/bin/env python3
"""`import` as people use it: what was exported comes back, other kinds of models become pools without a change of a logit,
training goes on from there, and a wrong folder is a sentence that leaves nothing behind."""
import json
import os
import shutil
import struct
from collections.abc import Callable
from typing import Any

import run_harness
from run_harness import ReadFolder, ReadTensors, RunTest, SomeText, Tensors, WriteTensors

DENSE = ["moe.sharing=DENSE", "moe.experts=3", "moe.balance=NONE", "moe.router_constant=0"]
VANILLA = ["moe.sharing=PRIVATE", "moe.router=SOFTMAX", "moe.experts=12", "moe.top_k=2", "moe.router_constant=0", "moe.balance=LAYER_LOSS"]
LOCKED = ["moe.experts=6",
          "moe.lock.assignment=RANDOM", "moe.lock.entropy_end_fraction=0.25", "moe.lock.lock_fraction=0.5", "moe.lock.entropy_target=2"]
STEPS = "train.steps=4"
# name: (settings, --as, flags of export)
FAMILY: dict[str, tuple[list[str], str, list[str]]] = {
    "pool": (["moe.top_k=2"], "pool", ["--shard_gigabytes=1e-5"]),
    "grouped": (["moe.sharing=GROUPED", "moe.groups=3", "moe.experts=6", "moe.router_constant=0", "moe.balance=BIAS"], "pool", []),
    "sliding": (["moe.sharing=SLIDING", "moe.band=4", "moe.router=SIGMOID", "moe.router_constant=0"], "pool", []),
    "layer_bias": (["moe.balance=BIAS", "moe.bias_scope=LAYER", "moe.balance_counts=POSITIVE"], "pool", []),
    "locked": (LOCKED, "pool", []),
    "vanilla": (VANILLA, "private", []),
    "vanilla_by_code": (VANILLA, "private", ["--as=unipool"]),
    "dense": (DENSE, "dense", []),
    "dense_by_code": (DENSE, "dense", ["--as=unipool"]),
}


def Floats(data: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(data) // 4}f", data))


class Harness(RunTest):
    def Import(self, folder: str, kind: str, out: str, *more: str) -> Any:
        outcome = self.Run("import", folder, f"--as={kind}", f"--out={out}", "--json", *more)
        return json.loads(outcome.stdout)

    def Logits(self, run: str) -> tuple[bytes, float]:
        name = run.replace("/", "_") + ".safetensors"
        if os.path.exists(self.Path(name)):
            os.remove(self.Path(name))
        printed = self.Run("eval", run, "data.train=book.txt", "parallel.ranks=1", "--sequences=5", "--json", f"--logits={name}",
                           "data.split=90,10,0")
        return ReadTensors(self.Path(name))["logits"][2], json.loads(printed.stdout)["loss"]

    def Weights(self, run: str, step: int) -> Tensors:
        return ReadFolder(self.Path(run, f"checkpoints/step-{step}"))

    def Export(self, name: str, settings: list[str], *flags: str) -> None:
        self.Train(STEPS, *settings, f"run_dir=runs/{name}")
        self.Run("export", f"runs/{name}", f"--out={name}", *flags)

    def Refuse(self, sentence: str, *arguments: str) -> None:
        before = sorted(os.listdir(self.folder))
        outcome = self.Run("import", *arguments, code=2)
        self.assertIn(sentence, outcome.text, arguments)
        self.assertEqual(sorted(os.listdir(self.folder)), before, arguments)
        for sign in run_harness.SIGNS_OF_A_BUG:
            self.assertNotIn(sign, outcome.text, arguments)


class ImportTest(Harness):
    def test_what_was_exported_comes_back(self) -> None:
        for name, (settings, kind, flags) in FAMILY.items():
            with self.subTest(name):
                self.Export(name, settings, *flags)
                self.assertTrue(self.Import(name, kind, f"back-{name}")["exact"])
                saved, back = self.Weights(f"runs/{name}", 4), self.Weights(f"back-{name}", 0)
                if name == "vanilla":  # rows that a layer's router has for experts of other layers are in no export
                    for layer in range(3):
                        router = f"model.layers.{layer}.mlp.router.weight"
                        size = 4 * 32 * 4  # bytes of a layer's own rows
                        one, other = saved.pop(router)[2], back.pop(router)[2]
                        self.assertEqual(one[layer * size:(layer + 1) * size], other[layer * size:(layer + 1) * size])
                        self.assertEqual(other.replace(b"\0", b""), one[layer * size:(layer + 1) * size].replace(b"\0", b""))
                self.assertEqual(saved.keys(), back.keys())
                self.assertEqual([], [weight for weight in saved if saved[weight] != back[weight]])
                self.assertTrue(self.Logits(f"runs/{name}") == self.Logits(f"back-{name}"))
                with open(self.Path(f"back-{name}", "config.txtpb")) as file:
                    self.assertIn("lr: 0.003\n", file.read())

    def test_other_kinds_become_pools(self) -> None:
        """(export, kind, settings of import): logits are the same bit for bit."""
        self.Export("vanilla", VANILLA)
        self.Export("private_norm", ["moe.sharing=PRIVATE", "moe.experts=12", "moe.top_k=2", "moe.router_constant=0", "moe.balance=BIAS"])
        self.Export("dense", DENSE)
        for source, kind, settings in [("vanilla", "pool", []), ("private_norm", "pool", []), ("dense", "pool", []),
                                       ("dense", "pool", ["moe.experts=8"]), ("dense", "private", []), ("dense", "private", ["moe.experts=6"])]:
            with self.subTest(source=source, kind=kind, settings=settings):
                out = "-".join(["new", source, kind, *settings])
                self.assertTrue(self.Import(source, kind, out, *settings)["exact"])
                logits, loss = self.Logits(f"runs/{source}")
                changed, new_loss = self.Logits(out)
                self.assertTrue(logits == changed)
                self.assertEqual(loss, new_loss)
        with open(self.Path("new-vanilla-pool/config.txtpb")) as file:
            self.assertIn("sharing: GLOBAL\n", file.read())
        found = self.Import("vanilla", "pool", "open", "--visible=all")
        self.assertFalse(found["exact"])
        self.assertIn("may choose all experts", found["reason"])
        self.assertFalse(self.Logits("open")[0] == self.Logits("runs/vanilla")[0])

    def test_training_goes_on_on_any_layout(self) -> None:
        self.Export("vanilla", VANILLA)
        settings = ["data.train=book.txt", "train.steps=6", "train.eval_every=6"]
        self.Import("vanilla", "pool", "one", *settings)
        for run in ("four", "cut"):
            shutil.copytree(self.Path("one"), self.Path(run))
        layout = ["parallel.stages=2", "train.micro_batch=1"]
        self.Run("train", "one/config.txtpb", "parallel.ranks=1")
        told = self.Run("train", "four/config.txtpb", "run_dir=four", *layout, mpi=4).text
        self.assertIn("continuing from four/checkpoints/step-0", told)
        self.AssertLossesClose("four", "one")
        self.assertEqual(len(self.Steps("one")), 6)
        self.assertLess(self.Steps("one")[-1]["loss"], self.Steps("one")[0]["loss"])
        # Layers go on seeing their own experts alone.
        for run in ("one", "four"):
            factors = self.Weights(run, 6)["model.layers.1.mlp.router.attenuation"][2]
            self.assertEqual(Floats(factors), [0.0] * 4 + [1.0] * 4 + [0.0] * 4)
        # A start that is cut off in the middle goes on, bit for bit.
        self.Run("train", "cut/config.txtpb", "run_dir=cut", "parallel.ranks=1", "train.save_every=3", "train.keep_checkpoints=0")
        shutil.rmtree(self.Path("cut/checkpoints/step-6"))
        self.Run("train", "cut/config.txtpb", "run_dir=cut", "parallel.ranks=1", "train.save_every=3")
        self.assertTrue(self.Weights("cut", 6) == self.Weights("one", 6))
        self.assertIn("the", self.Run("generate", "one", "--prompt=the", "--max_tokens=4").text)
        self.Run("export", "one", "--out=again")
        self.Import("again", "pool", "third")
        self.assertTrue(self.Logits("third") == self.Logits("one"))

    def test_ffns_are_cut_into_parts(self) -> None:
        self.Export("dense", DENSE)
        logits = Floats(self.Logits("runs/dense")[0])
        data = ["--data=book.txt", "--sequences=4"]

        def Distance(run: str) -> float:
            return max(abs(a - b) for a, b in zip(logits, Floats(self.Logits(run)[0]))) / (max(logits) - min(logits))
        for name, kind, settings in [("all", "private", ["moe.top_k=4"]), ("shared", "pool", ["--shared=4", "moe.top_k=4", "moe.width=7"])]:
            self.assertTrue(self.Import("dense", kind, name, "--parts=4", *data, *settings)["exact"])
            self.assertLess(Distance(name), 1e-5)
        found = self.Import("dense", "pool", "two", "--parts=4", "--shared=2", "moe.top_k=2", *data)
        self.assertFalse(found["exact"])
        self.assertRegex(found["reason"], "each FFN of 16 neurons became 4 experts of 4, 2 of them in all experts; they hold [6-9]")
        self.assertGreater(Distance("two"), 1e-3)
        with open(self.Path("two/neuron_importance.json")) as file:
            importance = json.load(file)["importance"]
        self.assertEqual([[16] * 3], [[len(layer) for layer in importance]])
        # The most important neuron of layer 1 is the first of each of its experts, and counts half in each of two.
        first = max(range(16), key=lambda j: importance[1][j])
        before, after = self.Weights("runs/dense", 4), self.Weights("two", 0)
        rows = Floats(before["model.pool.experts.1.up_proj.weight"][2])[32 * first:32 * first + 32]
        columns = Floats(before["model.pool.experts.1.down_proj.weight"][2])[first::16]
        for expert in range(4, 8):
            self.assertEqual(rows, Floats(after[f"model.pool.experts.{expert}.up_proj.weight"][2])[:32])
            self.assertEqual([2 * x for x in columns], Floats(after[f"model.pool.experts.{expert}.down_proj.weight"][2])[::4])
        # Training goes on, and nothing in it is stuck.
        self.Run("train", "two/config.txtpb", "data.train=book.txt", "train.steps=8", "train.eval_every=0")
        losses = [line["loss"] for line in self.Steps("two")]
        self.assertLess(losses[-1], losses[0])
        for sentence, more in [("--parts=17: must be from 1 to 16", ["--parts=17", *data]),
                               ("--shared=5: must be from 0 to 4", ["--parts=4", "--shared=5", *data]),
                               ("need 20 neurons", ["--parts=4", "moe.width=5", *data]),
                               ("is measured on --data", ["--parts=4"]),
                               ("nothing.txt", ["--parts=4", "--data=nothing.txt"]),
                               ("--data: is for --parts or --donor", data),
                               ("--shared: says how many", ["--shared=3"]),
                               ("--sequences=-1", ["--parts=4", "--data=book.txt", "--sequences=-1"]),
                               ("moe.width=8: would make another model", ["moe.width=8"])]:
            self.Refuse(sentence, "dense", "--as=private", "--out=x", *more)
        self.Refuse("--parts: cuts FFNs into experts", "dense", "--as=dense", "--out=x", "--parts=4", *data)

    def test_donor_experts_come_into_named_places(self) -> None:
        self.Export("pool", [])
        self.Export("donor", [*VANILLA, "train.seed=8"])
        self.Write("law.txt", SomeText(400, seed=21))
        self.Write("code.txt", "".join(f"f({i}, [{i * 7 % 11}]);\n" for i in range(300)))
        arguments = ["pool", "--as=pool", "--donor=donor", "--place=5,1", "--data=law.txt,code.txt", "--sequences=6"]
        found = json.loads(self.Run("import", *arguments, "--out=new", "--json").stdout)
        self.assertFalse(found["exact"])
        # The same shares, counted by the command for them.
        least = [[1.0] * 12 for _ in range(3)]
        for domain in ("law.txt", "code.txt"):
            told = self.Run("experts", "runs/donor", f"data.train={domain}", "data.split=0,100,0", "data.order=SEQUENTIAL", "--sequences=6",
                            "train.micro_batch=1", "--json")
            for layer, choices in enumerate(json.loads(told.stdout)["tables"]["choices"]):
                least[layer] = [min(was, count / sum(choices)) for was, count in zip(least[layer], choices)]
        scores = [sum(layer[expert] for layer in least) for expert in range(12)]
        best = sorted(range(12), key=lambda expert: (-scores[expert], expert))[:2]
        self.assertIn(f"5 is its {best[0]} ({scores[best[0]]:.4f}), 1 is its {best[1]} ({scores[best[1]]:.4f})", found["reason"])
        before, donor, after = self.Weights("runs/pool", 4), self.Weights("runs/donor", 4), self.Weights("new", 0)
        self.assertEqual(before.keys(), after.keys())
        for place, expert in ((5, best[0]), (1, best[1])):
            for part in ("gate_proj", "up_proj", "down_proj"):
                name = f"model.pool.experts.{place}.{part}.weight"
                self.assertTrue(after.pop(name) == donor[f"model.pool.experts.{expert}.{part}.weight"], name)
        self.assertEqual([], [name for name in after if after[name] != before[name]])
        self.Run("eval", "new", "data.train=book.txt", "data.split=90,10,0", "--sequences=3")
        self.Export("wide", ["moe.width=24"])
        self.Export("dense", DENSE)

        def With(flag: str, value: str) -> list[str]:
            return [f"{flag}={value}" if word.startswith(flag + "=") else word for word in arguments]
        for sentence, words in [("its experts have hidden size 32 and width 24; those of the model have 32 and 16", With("--donor", "wide")),
                                ("it is dense, so its layers choose no experts", With("--donor", "dense")),
                                ("nowhere: no such folder", With("--donor", "nowhere")),
                                ('"7" is no place; the pool has experts 0 to 6', With("--place", "7")),
                                ("--place=1,1: names 1 twice", With("--place", "1,1")),
                                ("--donor and --place: whose experts", arguments[:3] + arguments[4:]),
                                ("its experts are chosen by their use on --data", arguments[:4]),
                                ("nothing.txt", With("--data", "law.txt,nothing.txt"))]:
            self.Refuse(sentence, *words, "--out=x")


class FolderTest(Harness):
    """Folders as others make them, and broken ones."""

    def setUp(self) -> None:
        super().setUp()
        self.Export("vanilla", VANILLA)

    def Copy(self, name: str, change: Callable[[Tensors], None] | None = None, **settings: Any) -> str:
        """The exported folder with other tensors or other keys in config.json; None takes a key away."""
        shutil.rmtree(self.Path(name), ignore_errors=True)
        shutil.copytree(self.Path("vanilla"), self.Path(name))
        tensors = ReadTensors(self.Path(name, "model.safetensors"))
        if change:
            change(tensors)
            WriteTensors(self.Path(name, "model.safetensors"), tensors)
        with open(self.Path(name, "config.json")) as file:
            config = {**json.load(file), **settings}
        with open(self.Path(name, "config.json"), "w") as file:
            json.dump({key: value for key, value in config.items() if value is not None}, file)
        return name

    def test_halves_are_read_exactly(self) -> None:
        def Bf16(tensors: Tensors) -> None:
            for name, (_, shape, data) in tensors.items():
                tensors[name] = ("BF16", shape, b"".join(data[i + 2:i + 4] for i in range(0, len(data), 4)))

        def F16(tensors: Tensors) -> None:
            for name, (_, shape, data) in tensors.items():
                tensors[name] = ("F16", shape, struct.pack(f"<{len(data) // 4}e", *Floats(data)))
        self.Import(self.Copy("bf16", Bf16), "private", "from-bf16")
        self.Import(self.Copy("f16", F16), "private", "from-f16")
        name = "model.pool.experts.3.up_proj.weight"
        data = self.Weights("runs/vanilla", 4)[name][2]
        cut = b"".join(b"\0\0" + data[i + 2:i + 4] for i in range(0, len(data), 4))
        self.assertEqual(self.Weights("from-bf16", 0)[name][2], cut)
        half = struct.unpack(f"<{len(data) // 4}e", struct.pack(f"<{len(data) // 4}e", *Floats(data)))
        self.assertEqual(Floats(self.Weights("from-f16", 0)[name][2]), list(half))

    def test_a_head_that_is_the_embedding(self) -> None:
        def Untie(tensors: Tensors) -> None:
            del tensors["lm_head.weight"]
        os.remove(self.Path("vanilla/unipool.txtpb"))
        self.assertIn("a copy of the embedding", str(self.Import(self.Copy("tied", Untie, tie_word_embeddings=True), "private", "out")["notes"]))
        weights = self.Weights("out", 0)
        self.assertEqual(weights["lm_head.weight"], weights["model.embed_tokens.weight"])
        self.Refuse("lm_head.weight differs from model.embed_tokens.weight", self.Copy("both", tie_word_embeddings=True), "--as=private", "--out=x")

    def test_wrong_tensors(self) -> None:
        expert = "model.layers.1.mlp.experts.2.up_proj.weight"

        def Set(name: str, dtype: str | None = None, shape: list[int] | None = None, data: bytes | None = None) -> Callable[[Tensors], None]:
            def Change(tensors: Tensors) -> None:
                old = tensors.get(name, ("F32", [1], b"\0" * 4))
                tensors[name] = (dtype or old[0], shape or old[1], old[2] if data is None else data)
            return Change

        def Remove(tensors: Tensors) -> None:
            del tensors[expert]

        def Enliven(tensors: Tensors) -> None:
            for part in ("gate_proj", "up_proj", "down_proj"):
                Set(f"model.layers.0.mlp.shared_expert.{part}.weight", data=b"\0\0\x80\x3f" * 16 * 32)(tensors)
        nan = struct.pack("<f", float("nan"))
        for sentence, change in [
                (f"missing: {expert} [16,32]", Remove),
                ("too many: model.layers.1.mlp.experts.9.up_proj.weight [1]", Set("model.layers.1.mlp.experts.9.up_proj.weight")),
                (f"misshaped: {expert} is [32,16], and by config.json [16,32]", Set(expert, shape=[32, 16])),
                (f"of another type: {expert} is I32; must be F32, BF16 or F16", Set(expert, dtype="I32")),
                (f"of another type: {expert} is F64", Set(expert, dtype="F64", data=b"\0" * 16 * 32 * 8)),
                (f"{expert}: element 5 is nan, which is no weight", Set(expert, data=b"\0" * 20 + nan + b"\0" * (16 * 32 * 4 - 24))),
                (f"{expert}: element 0 is inf", Set(expert, data=struct.pack("<f", float("inf")) + b"\0" * (16 * 32 * 4 - 4))),
                ("layer 0 has a shared expert that is not zero", Enliven),
                ("model.layers.2.self_attn.v_proj.bias is not zero", Set("model.layers.2.self_attn.v_proj.bias", data=b"\0\0\x80\x3f" * 16))]:
            with self.subTest(sentence):
                self.Refuse(sentence, self.Copy("bad", change), "--as=private", "--out=x")
        # A shared expert of which one matrix is zero adds nothing.
        up = Set("model.layers.0.mlp.shared_expert.up_proj.weight", data=b"\0\0\x80\x3f" * 16 * 32)
        self.Import(self.Copy("dead", up), "private", "out")

    def test_settings_that_contradict_the_tensors(self) -> None:
        cases: list[tuple[str, dict[str, Any]]] = [
            ("misshaped: model.embed_tokens.weight is [256,32], and by config.json [300,32]", {"vocab_size": 300}),
            ("missing: model.layers.3.input_layernorm.weight", {"num_hidden_layers": 4}),
            ("hidden_size is \"wide\"; must be a whole number", {"hidden_size": "wide"}),
            ("num_experts is missing", {"num_experts": None}),
            ("model_type is olmoe, which this program does not compute: it normalises", {"model_type": "olmoe"}),
            ("model_type is mixtral, which this program does not compute: it divides", {"model_type": "mixtral"}),
            ("norm_topk_prob is true", {"norm_topk_prob": True}),
            ("unipool.txtpb: is of another model than config.json: moe.top_k is 2 there and 1 by config.json", {"num_experts_per_tok": 1}),
            ("architectures lacks Qwen2MoeForCausalLM", {"architectures": ["BertModel"]})]
        for sentence, settings in cases:
            with self.subTest(sentence):
                if "misshaped" in sentence or "missing: " in sentence:
                    self.Copy("bad", **settings)
                    os.remove(self.Path("bad/unipool.txtpb"))
                    self.Refuse(sentence, "bad", "--as=private", "--out=x")
                else:
                    self.Refuse(sentence, self.Copy("bad", **settings), "--as=private", "--out=x")

    def test_folders_that_are_none(self) -> None:
        self.Refuse("no such folder", "nowhere", "--as=pool", "--out=x")
        self.Refuse("is a run or a checkpoint of this program", "runs/vanilla", "--as=pool", "--out=x")
        self.Refuse("is a run or a checkpoint of this program", "runs/vanilla/checkpoints/step-4", "--as=pool", "--out=x")
        self.Refuse("book.txt: is no folder", "book.txt", "--as=pool", "--out=x")
        self.Write("vanilla/model.safetensors.index.json", json.dumps({"weight_map": {"lm_head.weight": "../book.txt"}}))
        self.Refuse("leads out of the folder", "vanilla", "--as=pool", "--out=x")
        self.Write("vanilla/model.safetensors.index.json", "{")
        self.Refuse("model.safetensors.index.json: is damaged", "vanilla", "--as=pool", "--out=x")
        os.remove(self.Path("vanilla/model.safetensors.index.json"))
        os.rename(self.Path("vanilla/model.safetensors"), self.Path("elsewhere"))
        os.symlink("../elsewhere", self.Path("vanilla/model.safetensors"))
        self.Refuse("leads out of the folder, and only files in it are read; a copy without links: cp -rL vanilla COPY", "vanilla",
                    "--as=pool", "--out=x")
        self.Write("vanilla/config.json", "{\"model_type\": ")
        os.remove(self.Path("vanilla/model.safetensors"))
        os.rename(self.Path("elsewhere"), self.Path("vanilla/model.safetensors"))
        self.Refuse("config.json: is damaged; expected a JSON object", "vanilla", "--as=pool", "--out=x")
        os.remove(self.Path("vanilla/config.json"))
        self.Refuse("holds no config.json", "vanilla", "--as=pool", "--out=x")

    def test_wrong_requests(self) -> None:
        self.Refuse("--out: is missing", "vanilla", "--as=pool")
        self.Refuse("--out=runs: exists", "vanilla", "--as=pool", "--out=runs")
        self.Refuse("--as: is missing; say what the model becomes", "vanilla", "--out=x")
        self.Refuse("--as=moe: must be pool, private or dense", "vanilla", "--out=x", "--as=moe")
        self.Refuse("--visible=some: must be own or all", "vanilla", "--out=x", "--as=pool", "--visible=some")
        self.Refuse("--as=dense: the model has experts", "vanilla", "--out=x", "--as=dense")
        self.Refuse("the folder to read is missing", "--out=x", "--as=pool")
        self.Refuse("takes one folder, and has vanilla", "vanilla", "other", "--out=x", "--as=pool")
        self.Refuse("moe.top_k=1: would make another model; that of the folder has 2", "vanilla", "--out=x", "--as=pool", "moe.top_k=1")
        self.Refuse("model.vocab_multiple=128: would make another model", "vanilla", "--out=x", "--as=pool", "model.vocab_multiple=128")
        self.Refuse("moe.experts: is 13, but the model has 12 experts", "vanilla", "--out=x", "--as=pool", "moe.experts=13")
        self.Refuse("moe.lock: the layers of this model have given up experts", "vanilla", "--out=x", "--as=pool", "moe.lock.assignment=COUNTS")
        self.Refuse("train.lr: is 0", "vanilla", "--out=x", "--as=pool", "train.lr=0")
        self.Import("vanilla", "pool", "x", "train.lr=0.125", "model.seq_length=8")
        with open(self.Path("x/config.txtpb")) as file:
            text = file.read()
        self.assertIn("lr: 0.125\n", text)
        self.assertIn("seq_length: 8\n", text)

    def test_tokenizers(self) -> None:
        self.assertEqual("bytes", self.Import("vanilla", "private", "bytes")["tokenizer"])
        self.assertTrue(os.path.exists(self.Path("bytes/checkpoints/step-0/tokenizer.json")))
        with open(self.Path("vanilla/tokenizer.json")) as file:
            tokenizer = json.load(file)
        self.Write("vanilla/tokenizer.json", json.dumps({**tokenizer, "model": {**tokenizer["model"], "byte_fallback": True}}))
        self.assertIn("none, so the model takes token ids", self.Import("vanilla", "private", "other")["tokenizer"])
        self.Write("vanilla/tokenizer.json", "{]")
        self.Refuse("tokenizer.json: is damaged", "vanilla", "--as=private", "--out=x")
        os.remove(self.Path("vanilla/tokenizer.json"))
        self.assertIn("none, since the folder holds none", self.Import("vanilla", "private", "without")["tokenizer"])
        many = {**tokenizer["model"]["vocab"], "th": 256}
        self.Write("vanilla/vocab.json", json.dumps(many))
        self.Write("vanilla/merges.txt", "#version: 0.2\nt h\n")
        self.Refuse("its tokenizer has 257 tokens, but vocab_size of config.json is 256", "vanilla", "--as=private", "--out=x")


if __name__ == "__main__":
    run_harness.Main(__doc__)
