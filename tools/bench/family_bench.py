#!/usr/bin/env python3
"""Trains the members of the model family (family_variants.py) on real text, each with the same seeds, and writes a table:
validation losses, and differences from the vanilla MoE and from UniPool, paired by seed, with their standard errors. One rank,
one thread, one run at a time; hours in all, so it is made to be broken off: what is done is not done again, and a run goes on
from its checkpoint.

  tools/dev bench family RESULTS [field.path=value ...] --train FILE [FILE ...] --valid FILE [FILE ...]
                         [--size small|large] [--seeds 1,2,3] [--variants NAME,...] [--program FILE] [--table]

RESULTS/SIZE/VARIANT-SEED.json are the rows, RESULTS/SIZE/table.md is the table, RESULTS/text the tokens. Files are plain text,
read as bytes, or JSON lines (.jsonl, also compressed). A file that is not there is named and left out. Settings behind RESULTS
hold for every run. With --table nothing is trained.
"""
from __future__ import annotations

import argparse
import fcntl
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import family_table  # noqa: E402
from family_table import Row  # noqa: E402
from family_variants import SIZES, Size, Variant, settings_of_size, variants_of  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
USER_ERROR = 2


class Refused(Exception):
    """The program does not run this: its sentence."""


def fail(sentence: str) -> None:
    print(f"family: {sentence}", file=sys.stderr)
    sys.exit(USER_ERROR)


class Bench:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.size = options, SIZES[options.size]
        self.folder = os.path.join(options.results, options.size)
        self.variants = variants_of(self.size)
        os.makedirs(self.folder, exist_ok=True)
        self.child: subprocess.Popen[str] | None = None
        self.data: list[str] = []

    # Text ------------------------------------------------------------------------------------------------------------

    def prepare_text(self) -> None:
        train, valid = (self.sources(files) for files in (self.options.train, self.options.valid))
        if not train or not valid:
            fail("there is no text to train on; name files with --train and --valid")
        self.data = [f"data.train={','.join(train)}", f"data.valid={','.join(valid)}"]

    def sources(self, files: list[str]) -> list[str]:
        found = [file for file in files if os.path.exists(file)]
        for file in files:
            if file not in found:
                print(f"family: {file} is not there and is left out")
        return [self.source(os.path.abspath(file)) for file in found]

    def source(self, file: str) -> str:
        """Of data.train: the file, or the tokens of its JSON lines."""
        base = os.path.basename(file)
        if ".jsonl" not in base:
            return file
        prefix = os.path.join(os.path.abspath(self.options.results), "text", base.split(".jsonl")[0])
        os.makedirs(os.path.dirname(prefix), exist_ok=True)
        if not os.path.exists(prefix + "_text_document.idx"):
            self.call(["tokenize", "--input", file, "--output_prefix", prefix, "--tokenizer", "bytes", "--threads", "1"])
        return prefix + "_text_document"

    # Runs ------------------------------------------------------------------------------------------------------------

    def call(self, arguments: list[str]) -> str:
        """What the program prints. Refused: its last line, with exit code 2. Any other end but success ends the bench, and the
        same command goes on."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with subprocess.Popen([self.options.program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", env=environment) as self.child:
            assert self.child.stdout is not None
            text = self.child.stdout.read()
        code, self.child = self.child.returncode, None
        if code == USER_ERROR:
            raise Refused(" ".join(text.strip().split("\n")[-1].split()))
        if code != 0:
            print(text[-2000:], file=sys.stderr)
            fail(f"{' '.join(arguments)}: exit code {code}; the same command goes on")
        return text

    def stop(self, *_: Any) -> None:
        if self.child is not None:
            self.child.send_signal(signal.SIGTERM)  # it saves, and call() ends the bench
        else:
            sys.exit(75)

    def settings(self, variant: Variant, seed: int) -> list[str]:
        return [*settings_of_size(self.size), *variant.settings, f"train.seed={seed}", *self.data, *self.options.overrides]

    def row_file(self, name: str, seed: int) -> str:
        return os.path.join(self.folder, f"{name}-{seed}.json")

    def train(self, name: str, seed: int) -> None:
        settings = self.settings(self.variants[name], seed)
        run_dir = os.path.join(self.folder, "runs", f"{name}-{seed}")
        empty = os.path.join(self.folder, "empty.txtpb")
        with open(empty, "w", encoding="utf-8"):
            pass
        size = json.loads(self.call(["info", empty, *settings, "--json"]).strip().split("\n")[-1])["parameters"]
        settings += ["train.save_minutes=2", "train.keep_checkpoints=1"]
        if self.variants[name].begins_at_half_depth and not os.path.exists(run_dir):
            self.train_half_depth(empty, settings, run_dir)
        self.call(["train", empty, *settings, f"run_dir={run_dir}"])
        row: Row = {"variant": name, "seed": seed, "size": self.options.size, "total": size["total"], "active": size["active"],
                    **numbers_of(os.path.join(run_dir, "metrics.jsonl")), "settings": self.settings(self.variants[name], seed),
                    "program": self.version()}
        write_json(self.row_file(name, seed), row)
        shutil.rmtree(run_dir)
        shutil.rmtree(run_dir + "-half", ignore_errors=True)

    def train_half_depth(self, empty: str, settings: list[str], run_dir: str) -> None:
        """Half of the layers for half of the steps, on the rate's way through all steps; then the run with all layers."""
        steps, layers = (int(value_of(settings, name)) for name in ("train.steps", "model.layers"))
        half = run_dir + "-half"
        self.call(["help", "grow"])  # a program without it refuses now, not after the training
        self.call(["train", empty, *settings, f"run_dir={half}", f"model.layers={layers // 2}", f"train.steps={steps // 2}",
                   f"train.decay_steps={steps}", "train.eval_every=0"])
        self.call(["grow", half, "--layers", str(layers), "--out", run_dir])

    def version(self) -> str:
        return " ".join(self.call(["--version"]).split()[:4])

    def run(self) -> None:
        for seed in self.options.seeds:
            for name in self.options.variants or self.variants:
                row = read_row(self.row_file(name, seed))
                if row is not None and "valid_loss" in row:
                    if row["settings"] != self.settings(self.variants[name], seed):
                        fail(f"{self.row_file(name, seed)} was made with other settings; name another folder, or remove it")
                    continue
                try:
                    self.train(name, seed)
                except Refused as refusal:
                    write_json(self.row_file(name, seed), {"variant": name, "seed": seed, "refused": str(refusal)})
                    print(f"{name}, seed {seed}: does not run: {refusal}", flush=True)
                    continue
                done = read_row(self.row_file(name, seed))
                assert done is not None
                print(f"{name}, seed {seed}: validation loss {done['valid_loss']:.4f}, {done['seconds']:.0f} s", flush=True)
                self.write_table()

    # Table -----------------------------------------------------------------------------------------------------------

    def write_table(self) -> str:
        rows: dict[str, dict[int, Row]] = {}
        refused: dict[str, str] = {}
        for name in self.variants:
            for seed in self.options.seeds:
                row = read_row(self.row_file(name, seed))
                if row is not None and "valid_loss" in row:
                    rows.setdefault(name, {})[seed] = row
                elif row is not None:
                    refused[name] = row["refused"]
        text = head_of_table(self.options.size, self.size, rows)
        text += family_table.table(rows, {name: variant.what for name, variant in self.variants.items()}, refused)
        with open(os.path.join(self.folder, "table.md"), "w", encoding="utf-8") as file:
            file.write(text)
        return text


def head_of_table(name: str, size: Size, rows: dict[str, dict[int, Row]]) -> str:
    of_all = [row for of_variant in rows.values() for row in of_variant.values()]
    programs, steps = sorted({row["program"] for row in of_all}), sorted({row["step"] for row in of_all})
    tokens = sorted({row["tokens"] for row in of_all})
    return (f"Size {name}: {size.layers} layers of {size.hidden}, experts of width {size.width}; "
            f"{', '.join(map(str, steps))} steps, {', '.join(f'{count / 1e6:.2f}M' for count in tokens)} tokens; "
            f"{', '.join(programs)}.\nDifferences: mean over seeds ± standard error, paired by seed. Balance, ties (choices "
            "without a positive score) and dead experts: means of the last tenth of the steps.\n\n")


def value_of(settings: list[str], name: str) -> str:
    return [text.split("=", 1)[1] for text in settings if text.startswith(name + "=")][-1]


def numbers_of(metrics: str) -> Row:
    with open(metrics, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    steps, valid = [line for line in lines if "loss" in line], [line for line in lines if "valid_loss" in line]
    late = steps[-max(1, len(steps) // 10):]
    means = {key: statistics.fmean(line[key] for line in late)
             for key in ("loss", "max_violation", "tie_share", "zero_score_share", "dead_experts")}
    return {**means, "valid_loss": valid[-1]["valid_loss"], "step": steps[-1]["step"], "tokens": steps[-1]["tokens"],
            "seconds": sum(line["step_seconds"] for line in steps)}


def read_row(path: str) -> Row | None:
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        row: Row = json.load(file)
    return row


def write_json(path: str, row: Row) -> None:
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(row, file, indent=1)
        file.write("\n")
    os.replace(path + ".new", path)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", metavar="RESULTS")
    parser.add_argument("overrides", nargs="*", metavar="field.path=value")
    parser.add_argument("--train", nargs="+", default=[], metavar="FILE")
    parser.add_argument("--valid", nargs="+", default=[], metavar="FILE")
    parser.add_argument("--size", choices=SIZES, default="large")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--variants", default="", help="some of them; all without it")
    parser.add_argument("--program", default=os.path.join(ROOT, "build", "unipool"), metavar="FILE")
    parser.add_argument("--table", action="store_true", help="write the table of what is there")
    options = parser.parse_intermixed_args()
    options.seeds = [int(seed) for seed in options.seeds.split(",")]
    options.variants = [name for name in options.variants.split(",") if name]
    known = variants_of(SIZES[options.size])
    for name in options.variants:
        if name not in known:
            fail(f"there is no variant {name}; there are {', '.join(known)}")
    for override in options.overrides:
        if "=" not in override:
            fail(f"what is \"{override}\"? Settings are field.path=value, files stand behind --train and --valid")
    return options


def main() -> int:
    options = parse_options()
    bench = Bench(options)
    if not options.table:
        with open(os.path.join(options.results, "lock"), "w", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                fail(f"another process works in {options.results}")
            signal.signal(signal.SIGTERM, bench.stop)
            bench.prepare_text()
            bench.run()
    print(bench.write_table(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
