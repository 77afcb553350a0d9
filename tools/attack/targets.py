"""What is attacked with mutated inputs: for each kind of input its files, their mutations, and the commands that read them."""
from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import shutil
import struct

from cases import Case, EditsBetween
from mutations import BINARY, JSON, LINES, TENSORS, TEXT, WORDS, Mutation, Number
from program import FreshFolder, Program, WriteText

SMALL = """run_dir: "run"
model { layers: 2 hidden: 16 heads: 2 kv_heads: 1 seq_length: 16 vocab: 256 init_std: 0.05 }
moe { experts: 4 width: 16 top_k: 1 balance_coeff: 1e-3 }
train { steps: 2 global_batch: 4 micro_batch: 2 lr: 3e-3 warmup_fraction: 0.1 save_every: 1 keep_checkpoints: 0 }
data { train: "book.txt" split: "90,10,0" }
parallel { ranks: 1 watchdog_seconds: 60 }
traffic { record: FULL first_step: 0 num_steps: 2 }
"""
CLUSTER = """ranks_per_node: 2
intra_node { latency_us: 1 gigabytes_per_second: 8 contention { peers: 3 kilobytes: 64 share: 0.5 } }
inter_node { latency_us: 50 gigabytes_per_second: 0.03 }
adapters_per_node: 1
overlap: 0.9
processor {
""" + "".join(f"  work {{ kind: {kind} fixed_us: 5 rate {{ amount: 16 giga_per_second: 2 }} rate {{ amount: 64 giga_per_second: 4 }} }}\n"
              for kind in ("DENSE_FORWARD", "DENSE_BACKWARD", "EXPERTS_FORWARD", "EXPERTS_INPUT", "EXPERTS_WEIGHTS", "HEAD", "ROWS",
                           "OPTIMIZER")) + """  emulate: true
}
memory { gigabytes: 4 slack: 0.1 fixed_gigabytes: 0.1 }
origin { field: "inter_node" tag: SPEC source: "a sheet" }
"""
JSON_LINES = "".join(f'{{"text": "line {i} of many, w\\u00f6rter \\ud83d\\ude00 {"ab" * i}", "id": {i}}}\n' for i in range(12))
# GPT-2 writes each byte as a printable character of its own.
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
ALPHABET = [chr(byte) for byte in PRINTABLE] + [chr(256 + i) for i in range(256 - len(PRINTABLE))]
VOCABULARY = {word: i for i, word in enumerate([*ALPHABET, "th", "\u0120th", "in", "<|endoftext|>"])}
MERGES = "#version: 0.2\nt h\nĠ th\ni n\n"
STEP = "run/checkpoints/step-2"
TASKS = {
    "lambada": {"text": "he ran to the end"},
    "hellaswag": {"activity_label": "Run [x]", "ctx_a": "He", "ctx_b": "she", "endings": ["ran", "w\u00f6rter", "sat"], "label": "1"},
    "piqa": {"goal": "open", "sol1": "Pull.", "sol2": "Push.", "label": 1},
    "arc_easy": {"question": "Why?", "choices": {"text": ["so", "no"], "label": ["A", "B"]}, "answerKey": "B"},
    "winogrande": {"sentence": "Ann as _ was late", "option1": "Ann", "option2": "Eve", "answer": "2"},
    "boolq": {"passage": "It is.", "question": "is it", "answer": True},
}


def MakeSeeds(program: Program, folder: str) -> None:
    """A workspace with a sound file of each kind: run/ with checkpoints step-1 and step-2, shards/ and whole/ with weights, hub/ an
    export."""
    FreshFolder(folder)
    for name, text in {"small.txtpb": SMALL, "cluster.txtpb": CLUSTER, "lines.jsonl": JSON_LINES, "merges.txt": MERGES,
                       "vocab.json": json.dumps(VOCABULARY)}.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)
    os.makedirs(os.path.join(folder, "tasks"))
    for task, item in TASKS.items():
        with open(os.path.join(folder, f"tasks/{task}.jsonl"), "w", encoding="utf-8") as file:
            file.write(3 * (json.dumps(item) + "\n"))
    WriteText(os.path.join(folder, "book.txt"), 3000)
    tokens = [i * 7 % 256 for i in range(3000)]
    with open(os.path.join(folder, "tokens.bin"), "wb") as file:
        file.write(struct.pack("<3000H", *tokens))
    lengths = [500] * 6
    with open(os.path.join(folder, "tokens.idx"), "wb") as file:
        file.write(b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, 8, 6, 7) + struct.pack("<6i", *lengths)
                   + struct.pack("<6q", *(i * 1000 for i in range(6))) + struct.pack("<7q", *range(7)))
    for run, ranks in (("run", 1), ("two", 2)):
        ending = program.Run(folder, "train", "small.txtpb", f"run_dir={run}", f"parallel.ranks={ranks}", limit_seconds=60)
        if ending.code:
            raise SystemExit(f"the seed run failed, exit {ending.code}:\n{ending.text}")
    os.rename(os.path.join(folder, "two/checkpoints/step-2"), os.path.join(folder, "shards"))
    os.makedirs(os.path.join(folder, "recorded"))
    os.rename(os.path.join(folder, "two/traffic"), os.path.join(folder, "recorded/traffic"))
    shutil.copytree(os.path.join(folder, STEP), os.path.join(folder, "whole"))
    shutil.rmtree(os.path.join(folder, "two"))
    ending = program.Run(folder, "export", "run", "--out=hub", limit_seconds=60)
    if ending.code:
        raise SystemExit(f"the seed export failed, exit {ending.code}:\n{ending.text}")
    os.remove(os.path.join(folder, "console"))


@dataclasses.dataclass
class Target:
    files: list[str]          # of the workspace, one of which is mutated
    mutations: list[Mutation]
    commands: list[list[str]]


TRAIN = ["train", "small.txtpb", "run_dir=new"]
TOKENIZE = ["tokenize", "--input=lines.jsonl", "--output_prefix=out"]
GPT2 = ["--vocab=vocab.json", "--merges=merges.txt"]
CONTINUE = ["train", "small.txtpb", "train.steps=3"]
IMPORT = ["import", "hub", "--as=pool", "--out=imported"]
GENERATE = ["generate", "small.txtpb", "--prompt=ab", "--max_tokens=8"]

EVAL_TASKS = ["eval", "run", "--tasks=lambada,hellaswag,piqa,arc_easy,winogrande,boolq", "--task_data=tasks"]

TARGETS: dict[str, Target] = {
    "config": Target(
        ["small.txtpb"], TEXT,
        [[*TRAIN, "train.steps=1"], ["info", "small.txtpb"], ["train", "small.txtpb", "--print_config"],
         ["eval", "small.txtpb", "--sequences=4", "--json"]]),
    "idx": Target(
        ["tokens.idx", "tokens.idx", "tokens.bin"], BINARY,
        [[*TRAIN, "data.train=tokens", "train.steps=1"], [*TRAIN, "data.train=0.5 tokens,0.5 book.txt", "train.steps=1"]]),
    "safetensors": Target(
        ["whole/model.safetensors", "shards/model-00002-of-00002.safetensors"], TENSORS,
        [[*TRAIN, "train.init_from=whole", "train.steps=1"], [*TRAIN, "train.init_from=shards", "train.steps=1"],
         ["eval", "small.txtpb", "--checkpoint=whole", "--sequences=4", "--json"], [*GENERATE, "--checkpoint=shards"]]),
    "index": Target(
        ["shards/model.safetensors.index.json", "shards/config.json"], JSON,
        [[*TRAIN, "train.init_from=shards", "train.steps=1"], [*GENERATE, "--checkpoint=shards"]]),
    "state": Target([f"{STEP}/training_state.json"], JSON, [CONTINUE]),
    "checkpoint": Target(
        [f"{STEP}/config.json", f"{STEP}/config.txtpb", f"{STEP}/optimizer-00001-of-00001.safetensors",
         f"{STEP}/model.safetensors", "run/metrics.jsonl", "run/config.txtpb"], TENSORS + TEXT,
        [CONTINUE, ["eval", "small.txtpb", "--sequences=4"], GENERATE]),
    "traffic": Target(
        ["recorded/traffic/manifest.json", "recorded/traffic/window-0-1.json", "recorded/traffic/rank-00001.bin"], JSON + BINARY,
        [["report", "recorded"], ["report", "recorded", "--trace=t.json", "--matrix=m.txt", "--jsonl=l.jsonl"],
         ["report", "recorded", "--compare=recorded", "--html=p.html", "--by=node"],
         ["plan", "small.txtpb", "--cluster=cluster.txtpb", "parallel.ranks=2", "--counts=recorded"]]),
    "import": Target(
        ["hub/config.json", "hub/config.json", "hub/model.safetensors", "hub/tokenizer.json", "hub/unipool.txtpb"], JSON + TENSORS,
        [IMPORT, [*IMPORT, "--donor=hub", "--place=1,3", "--data=book.txt", "--sequences=2"]]),
    "jsonl": Target(["lines.jsonl"], LINES, [[*TOKENIZE, "--tokenizer=bytes"], [*TOKENIZE, *GPT2]]),
    "tasks": Target([f"tasks/{task}.jsonl" for task in TASKS], LINES, [EVAL_TASKS, [*EVAL_TASKS, "--json", "--log_samples=out"]]),
    "vocab": Target(["vocab.json"], JSON, [[*TOKENIZE, *GPT2]]),
    "merges": Target(["merges.txt"], TEXT, [[*TOKENIZE, *GPT2]]),
    "tokenizer": Target(
        [f"{STEP}/tokenizer.json"], JSON,
        [["generate", STEP, "--prompt=ab", "--max_tokens=8"], ["eval", STEP, "--sequences=4"], CONTINUE,
         [*TOKENIZE, f"--tokenizer={STEP}/tokenizer.json"]]),
    "cluster": Target(
        ["cluster.txtpb"], TEXT,
        [[*TRAIN, "train.steps=1", "parallel.ranks=2", "parallel.emulate=cluster.txtpb"],
         ["plan", "small.txtpb", "--cluster=cluster.txtpb", "parallel.ranks=2"],
         ["plan", "small.txtpb", "--cluster=cluster.txtpb", "parallel.ranks=2", "--search", "--json"],
         ["plan", "small.txtpb", "--cluster=cluster.txtpb", "parallel.ranks=4", "--imbalance=early"]]),
}
GENERATED = ["overrides", "flags"]
FLAGS = ["--prompt", "--prompt_file", "--stop", "--samples", "--max_tokens", "--temperature", "--top_k", "--top_p", "--sample_seed", "--checkpoint", "--sequences",
         "--split", "--json", "--input", "--output_prefix", "--key", "--threads", "--tokenizer", "--vocab", "--merges",
         "--append_eod", "--skip_bad_lines", "--print_config", "--anew", "--once", "--metric", "--x", "--smooth", "--svg",
         "--nodes", "--ranks_per_node", "--time", "--lead", "--signal", "--chain", "--links", "--launcher", "--sbatch",
         "--container", "--setup", "--template", "--site", "--array", "--mem", "--spare_nodes", "--picked", "--follow",
         "--text", "--html", "--trace", "--matrix", "--jsonl", "--steps", "--layer", "--lane", "--operation", "--by", "--compare",
         "--without", "--margin", "--to", "--out", "--layers", "--after", "--drop", "--criterion", "--format", "--as",
         "--shard_gigabytes", "--logits", "--dtype", "--visible", "--parts", "--shared", "--data", "--donor", "--place", "--tasks",
         "--task_data", "--limit", "--log_samples", "--cluster", "--counts", "--imbalance", "--search", "--ranks", "--max_memory", "--top",
         "--check", "--tolerance", "--cluster_out", "--seconds", "--save"]
COMMANDS = [GENERATE, ["generate", "run", "--max_tokens=8"], ["eval", "small.txtpb", "--sequences=4"], EVAL_TASKS, [*TOKENIZE, "--tokenizer=bytes"], [*TOKENIZE, *GPT2],
            ["info", "small.txtpb"], ["export", "run", "--out=exported"], IMPORT, ["experts", "run", "--sequences=4"], ["shrink", "run", "--to=2", "--out=less", "--sequences=4"],
            ["grow", "run", "--layers=5", "--out=deep"], ["train"], ["verify", "run"], ["watch", "run"], ["plot", "run"],
            ["compare", "run", "run"], ["report", "recorded"],
            ["plan", "small.txtpb", "--cluster=cluster.txtpb"], ["calibrate", "small.txtpb", "--seconds=1"], ["status", "run"], ["logs", "run"], ["submit", "small.txtpb", "--dry_run", "--dry_run"], [""]]
LARGE_STEPS = re.compile(r"train\.(steps|eval_every|stop_at)|\.ranks=")


def Fields(schema: str) -> list[str]:
    """All settings by their paths, from config.proto."""
    with open(schema, encoding="utf-8") as file:
        text = re.sub(r"//.*", "", file.read())
    messages = {name: re.findall(r"(?:optional|repeated)\s+(\w+)\s+(\w+)\s*=", body)
                for name, body in re.findall(r"message (\w+) \{(.*?)\n\}", text, re.S)}

    def Paths(message: str, prefix: str) -> list[str]:
        return [path for kind, name in messages[message]
                for path in (Paths(kind, f"{prefix}{name}.") if kind in messages else [prefix + name])]
    return Paths("Config", "")


class CaseMaker:
    def __init__(self, seeds: str, schema: str, choose: random.Random) -> None:
        self.seeds, self.fields, self.choose = seeds, Fields(schema), choose

    def Make(self, name: str) -> Case:
        if name == "overrides":
            return self.Overrides()
        if name == "flags":
            return self.Flags()
        target = TARGETS[name]
        path, command = self.choose.choice(target.files), self.choose.choice(target.commands)
        with open(os.path.join(self.seeds, path), "rb") as file:
            data = file.read()
        edits = []
        for _ in range(self.choose.choice([1, 1, 1, 2, 3])):
            new = self.choose.choice(target.mutations)(data, self.choose)
            edits += EditsBetween(data, new) if new != data else []
            data = new
        return Case(name, list(command), {path: {"edits": edits}})

    def Value(self, words: float = 0.3) -> str:
        value = self.choose.choice(WORDS) if self.choose.random() < words else Number(self.choose)
        return value.replace("\0", "")[:60000]

    def Overrides(self) -> Case:
        settings = [f"{self.choose.choice(self.fields)}={self.Value(0.15)}" for _ in range(self.choose.choice([1, 1, 2, 3, 5]))]
        command = self.choose.choice([["info", "small.txtpb"], TRAIN, TRAIN])
        last = [] if any(LARGE_STEPS.match(setting) for setting in settings) or command[0] == "info" else ["train.steps=1"]
        return Case("overrides", [*command, *settings, *last])

    def Flags(self) -> Case:
        command = list(self.choose.choice(COMMANDS))
        for _ in range(self.choose.choice([1, 1, 2])):
            command.insert(self.choose.randrange(1, len(command) + 1), f"{self.choose.choice(FLAGS)}={self.Value(0.6)}")
        if self.choose.random() < 0.1:
            command.pop(self.choose.randrange(len(command)))
        return Case("flags", command or ["help"])
