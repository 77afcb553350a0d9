#!/usr/bin/env python3
"""What `tools/dev demo` tells about its text and its result. Numbers are nats per byte.

Usage: demo_report.py text FILE SPLIT             size of the text, unigram entropy of its validation part
       demo_report.py result FILE SPLIT RUN_DIR   validation loss beside that entropy, from RUN_DIR's files
SPLIT is data.split, for example 95,5,0.
"""
import json
import math
import os
import sys

MOST_BYTES = 64_000_000  # of the validation part that are counted


def ValidationPart(path, split):
    """Begin and end of the validation part, cut as launcher/text_dataset.cc does."""
    shares = [float(share) for share in split.split(",")]
    size = os.path.getsize(path)
    begin, end = shares[0] / sum(shares), (shares[0] + shares[1]) / sum(shares)
    return round(begin * size), round(end * size)


def UnigramEntropy(path, begin, end):
    """Entropy of single bytes: the loss of a model that knows how frequent each byte is, and no context."""
    with open(path, "rb") as file:
        file.seek(begin)
        part = file.read(min(end - begin, MOST_BYTES))
    counts = [part.count(value) for value in range(256)]
    return -sum(n / len(part) * math.log(n / len(part)) for n in counts if n)


def StepsOf(run_dir):
    with open(os.path.join(run_dir, "metrics.jsonl")) as file:
        lines = [json.loads(line) for line in file]
    return [line for line in lines if "loss" in line]


def main():
    if len(sys.argv) < 4 or sys.argv[1] not in ("text", "result"):
        sys.exit(__doc__)
    path, split = sys.argv[2:4]
    begin, end = ValidationPart(path, split)
    if begin == end:
        sys.exit(f"{path}: too small, its validation part ({split}) is empty; give a longer text")
    entropy = UnigramEntropy(path, begin, end)
    if sys.argv[1] == "text":
        print(f"{path}: {os.path.getsize(path):,} bytes; validation part {end - begin:,} bytes, "
              f"unigram entropy {entropy:.3f} nats/byte")
        return
    run_dir = sys.argv[4]
    with open(os.path.join(run_dir, "eval.json")) as file:
        loss = json.load(file)["loss"]
    steps = StepsOf(run_dir)
    seconds = sum(step["step_seconds"] for step in steps)
    print(f"validation loss {loss:.3f} nats/byte ({loss / math.log(2):.2f} bits), unigram entropy {entropy:.3f}: "
          f"{1 - loss / entropy:.0%} below")
    print(f"{len(steps)} steps, {steps[-1]['tokens']:,} tokens in {seconds:.0f} s of steps "
          f"({steps[-1]['tokens'] / seconds:,.0f} tokens/s)")
    worst = max(step["zero_score_share"] for step in steps)
    print(f"experts without a token in the last step: {steps[-1]['dead_experts']}; tokens without a positive router "
          f"score: {steps[-1]['zero_score_share']:.1%} in the last step, {worst:.1%} at most")


if __name__ == "__main__":
    main()
