"""Check of training on a GPU: PyTorch's program is the same model on this device too."""
from __future__ import annotations

import array

from training_context import BF16_BOUND, FP32_BOUND, Compared, Outcome, Row, Training


def WriteSamples(path: str, text: bytes, count: int, length: int) -> None:
    """Samples of length + 1 tokens, each beginning where the one before it ends, and at the first again when none is left."""
    samples, different = array.array("i"), (len(text) - 1) // length
    for sample in range(count):
        begin = sample % different * length
        samples.extend(text[begin:begin + length + 1])
    with open(path, "wb") as file:
        samples.tofile(file)


def CheckTorchSame(training: Training) -> Outcome:
    """From our weights, on the same samples."""
    training.NeedTorch()
    settings = ["data.order=SEQUENTIAL", "data.split=1,0,0", "moe.router_constant=2.8", "train.save_every=0"]
    training.Train("torch-first", *settings, "device=CPU", "train.steps=1")
    first = training.runs.Path("torch-first", "checkpoints", "step-1")
    steps = training.short_steps
    ours = training.Train("torch-ours", *settings, "device=CPU", f"train.init_from={first}", f"train.steps={steps}")
    length, batch = training.Fields([*training.demo, *settings], "seq_length", "global_batch")
    with open(training.flags.text, "rb") as file:
        text = file.read()
    path = training.runs.Path("samples")
    WriteSamples(path, text, steps * batch, length)
    rows = []
    for precision, bound in (("FP32", FP32_BOUND), ("BF16", BF16_BOUND)):
        result = training.TorchJson(f"torch-{precision}", *training.demo, *settings, f"train.steps={steps}", "--samples",
                                    path, "--init", first, "--steps", str(steps), "--precision", precision)
        theirs = {step + 1: {"loss": loss} for step, loss in enumerate(result["losses"])}
        rows.append(Row(f"PyTorch {precision} on {result['device']} against ours on the CPU", ours, theirs,
                        range(1, steps + 1), bound))
    return Compared(rows)
