"""What gpu_training.py looks at beside a run: memory in use on the GPU, and when the first step began."""
from __future__ import annotations

import json
import os
import subprocess
import threading
import time


class Watch:
    """While this is entered, a thread calls Look() again and again until that says that it has seen enough."""

    def __init__(self, seconds_between: float) -> None:
        self.seconds_between = seconds_between
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.LookOn)

    def Look(self) -> bool:
        raise NotImplementedError

    def LookOn(self) -> None:
        while not self.Look() and not self.stop.wait(self.seconds_between):
            pass

    def Begin(self) -> None:
        self.thread.start()

    def End(self) -> None:
        self.stop.set()
        self.thread.join()


class GpuMemory(Watch):
    """The largest memory in use on the device while this is entered, as the driver sees it, less what was used before."""

    def __init__(self, seconds_between: float = 0.2) -> None:
        super().__init__(seconds_between)
        self.before: int | None = None
        self.most = 0

    def __enter__(self) -> GpuMemory:
        self.before = self.Used()
        self.Begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.End()

    def Look(self) -> bool:
        if self.before is not None:
            self.most = max(self.most, self.Used() or 0)
        return self.before is None

    @staticmethod
    def Used() -> int | None:
        try:
            done = subprocess.run(["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"], timeout=20,
                                  capture_output=True, text=True, check=True)
            return int(done.stdout.split()[0]) << 20
        except (OSError, ValueError, IndexError, subprocess.SubprocessError):
            return None

    @property
    def bytes(self) -> int | None:
        return self.most - self.before if self.before is not None and self.most else None


def WrittenLines(path: str) -> list[bytes]:
    """Those of a file that are written to their end; none where there is no file."""
    try:
        with open(path, "rb") as file:
            return [line for line in file if line.endswith(b"\n")]
    except OSError:
        return []


class FirstStep(Watch):
    """Seconds from the moment at which this is entered until a training run's first step began; None: there was no step."""

    def __init__(self, run_dir: str) -> None:
        super().__init__(0.02)
        self.metrics = os.path.join(run_dir, "metrics.jsonl")
        self.seconds: float | None = None

    def __enter__(self) -> FirstStep:
        self.entered, self.lines_before = time.monotonic(), len(WrittenLines(self.metrics))
        self.Begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.End()
        self.Look()  # the run may have ended since the last

    def Look(self) -> bool:
        now = time.monotonic()
        steps = [line for line in WrittenLines(self.metrics)[self.lines_before:] if b'"step_seconds"' in line]
        if self.seconds is None and steps:
            self.seconds = max(0.0, now - self.entered - float(json.loads(steps[0])["step_seconds"]))
        return bool(steps)
