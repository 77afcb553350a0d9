#!/usr/bin/env python3
"""What `tools/dev demo` tells about its text and its result. Numbers are nats per byte."""
from __future__ import annotations

import argparse
import json
import math
import os
import sys
from typing import Any

MOST_BYTES = 64_000_000  # of the validation part that are counted


def ValidationPart(path: str, split: str) -> tuple[int, int]:
    """Begin and end of the validation part, cut as launcher/data/text_dataset.cc does."""
    shares = [float(share) for share in split.split(",")]
    size = os.path.getsize(path)
    begin, end = shares[0] / sum(shares), (shares[0] + shares[1]) / sum(shares)
    return round(begin * size), round(end * size)


def UnigramEntropy(path: str, begin: int, end: int) -> float:
    """Entropy of single bytes: the loss of a model that knows how frequent each byte is, and no context."""
    with open(path, "rb") as file:
        file.seek(begin)
        part = file.read(min(end - begin, MOST_BYTES))
    counts = [part.count(value) for value in range(256)]
    return -sum(n / len(part) * math.log(n / len(part)) for n in counts if n)


def StepsOf(run_dir: str) -> list[dict[str, Any]]:
    with open(os.path.join(run_dir, "metrics.jsonl"), encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    return [line for line in lines if "loss" in line]


def Text(path: str, begin: int, end: int, entropy: float) -> str:
    return (f"{path}: {os.path.getsize(path):,} bytes; validation part {end - begin:,} bytes, "
            f"unigram entropy {entropy:.3f} nats/byte")


def Result(run_dir: str, entropy: float) -> str:
    with open(os.path.join(run_dir, "eval.json"), encoding="utf-8") as file:
        loss = json.load(file)["loss"]
    steps = StepsOf(run_dir)
    seconds = sum(step["step_seconds"] for step in steps)
    worst = max(step["zero_score_share"] for step in steps)
    return "\n".join([
        f"validation loss {loss:.3f} nats/byte ({loss / math.log(2):.2f} bits), unigram entropy {entropy:.3f}: "
        f"{1 - loss / entropy:.0%} below",
        f"{len(steps)} steps, {steps[-1]['tokens']:,} tokens in {seconds:.0f} s of steps "
        f"({steps[-1]['tokens'] / seconds:,.0f} tokens/s)",
        f"experts without a token in the last step: {steps[-1]['dead_experts']}; tokens without a positive router "
        f"score: {steps[-1]['zero_score_share']:.1%} in the last step, {worst:.1%} at most"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    text = kinds.add_parser("text", help="size of the text, unigram entropy of its validation part")
    result = kinds.add_parser("result", help="validation loss beside that entropy, from RUN_DIR's files")
    for kind in (text, result):
        kind.add_argument("path", metavar="FILE")
        kind.add_argument("split", metavar="SPLIT", help="data.split, for example 95,5,0")
    result.add_argument("run_dir", metavar="RUN_DIR")
    arguments = parser.parse_args()
    begin, end = ValidationPart(arguments.path, arguments.split)
    if begin == end:
        sys.exit(f"{arguments.path}: too small, its validation part ({arguments.split}) is empty; give a longer text")
    entropy = UnigramEntropy(arguments.path, begin, end)
    if arguments.kind == "text":
        print(Text(arguments.path, begin, end, entropy))
    else:
        print(Result(arguments.run_dir, entropy))


if __name__ == "__main__":
    main()
