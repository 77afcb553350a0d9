"""What tools/gpu_training.py judges runs by: pure functions of metrics, tested without a GPU (tests/gpu_training_test.py)."""
import json
import math
import statistics


class Failed(Exception):
    """A check came to a bad end; the text is for the report."""


def ReadSteps(path):
    """{step: its line} of a run's metrics.jsonl. Raises Failed: no file, no steps, a step twice."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
    except (OSError, ValueError) as error:
        raise Failed(f"{path}: {error}") from error
    steps = {}
    for line in lines:
        if "loss" not in line:
            continue  # a validation
        if line["step"] in steps:
            raise Failed(f"{path}: step {line['step']} is there twice")
        steps[line["step"]] = line
    if not steps:
        raise Failed(f"{path}: no step is there")
    return steps


class Comparison:
    """Losses of a run against those of a reference, step by step. `steps`: those that must be there in both."""

    def __init__(self, reference, run, steps, bound):
        missing = [step for step in steps if step not in reference or step not in run]
        if missing or not steps:
            raise Failed(f"steps {missing[:5]} of {len(steps)} are missing")
        self.bound, self.steps = bound, len(steps)
        self.first_apart, self.largest, self.largest_at = None, 0.0, steps[0]
        for step in steps:
            ours, theirs = run[step]["loss"], reference[step]["loss"]
            is_number = all(isinstance(loss, float) and math.isfinite(loss) for loss in (ours, theirs))
            difference = abs(ours - theirs) / abs(theirs) if is_number and theirs else math.inf
            if difference > bound and self.first_apart is None:
                self.first_apart = step
            if difference > self.largest:
                self.largest, self.largest_at = difference, step
        self.last = (run[steps[-1]]["loss"], reference[steps[-1]]["loss"])
        # Losses that do not move agree whatever the program does.
        first, last = reference[steps[0]]["loss"], reference[steps[-1]]["loss"]
        self.has_moved = len(steps) == 1 or first != last

    @property
    def passed(self):
        return self.first_apart is None and self.has_moved

    def __str__(self):
        text = f"largest relative difference {self.largest:.1e} at step {self.largest_at} of {self.steps} compared"
        if self.first_apart is not None:
            text += f"; more than {self.bound:.0e} apart first at step {self.first_apart}"
        return text if self.has_moved else text + "; the reference's losses do not change"


def CompareLosses(reference, run, steps, bound):
    return Comparison(reference, run, list(steps), bound)


def MemoryDeviation(measured, predicted, bound=0.10):
    """(measured / predicted - 1, whether that is within bound)"""
    if predicted <= 0 or measured <= 0:
        raise Failed(f"measured {measured} and predicted {predicted} bytes can not be compared")
    deviation = measured / predicted - 1
    return deviation, abs(deviation) <= bound


def TokensPerSecond(steps, warmup):
    """Median over the steps after the first `warmup`."""
    rates = [steps[step]["tokens_per_second"] for step in sorted(steps)[warmup:]]
    if not rates:
        raise Failed(f"{len(steps)} steps, of which {warmup} are not timed")
    return statistics.median(rates)


def FlopsPerToken(info, layers, hidden, seq_length):
    """Model arithmetic of one trained token: 6 for each weight of a matrix that it meets (embedding: a look-up, none), and
    attention's two products over s/2 positions on average, forward and twice backward: 6 L s D."""
    parameters = info["parameters"]
    matrices = parameters["active"] - parameters["embedding"] - parameters["norms"]
    return 6 * (matrices + layers * seq_length * hidden)


# Dense bf16 rate of NVIDIA's data sheets (without sparsity), TFLOP/s, by a part of the device's name.
DENSE_BF16_TFLOPS = {"H200": 989, "H100": 989, "GH200": 989, "A100": 312, "B200": 2250}


def DensePeak(device):
    return next((rate for name, rate in DENSE_BF16_TFLOPS.items() if name in device), None)


def Table(head, rows):
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])
