"""What tests of the program share: a folder with a small model's settings and text, ways to start the program, and a
reader and writer of safetensors. Only the standard library."""
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Callable
from typing import Any

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tools/gpu"))
from mpi_environment import MPI_ENVIRONMENT  # noqa: E402

BINARY = MPIRUN = ""  # set by Main

SETTINGS = '''run_dir: "run"
model { layers: 3 hidden: 32 heads: 4 kv_heads: 2 seq_length: 16 vocab: 256 init_std: 0.05 }
moe { experts: 7 width: 16 router_constant: 2 balance_coeff: 1e-3 }
train {
  steps: 12 global_batch: 12 micro_batch: 1 lr: 3e-3 warmup_fraction: 0.1 eval_every: 6 save_every: 6 keep_checkpoints: 0
}
data { train: "book.txt" split: "90,10,0" }
parallel { watchdog_seconds: 60 }
'''

# What must never be seen when a person made a mistake.
SIGNS_OF_A_BUG = ["Check failure", "Check failed", "stack trace", "terminate called", "Segmentation", "Aborted", "core dumped"]

JOB_ENVIRONMENT = {**MPI_ENVIRONMENT, "OMPI_MCA_hwloc_base_binding_policy": "none", "OMP_NUM_THREADS": "1"}


Tensors = dict[str, tuple[str, list[int], bytes]]  # name: dtype, shape, data; of a safetensors file


class Outcome:
    def __init__(self, code: int, stdout: bytes, stderr: bytes, seconds: float) -> None:
        self.code, self.stdout, self.stderr, self.seconds = code, stdout, stderr, seconds
        self.text = stdout.decode(errors="replace") + stderr.decode(errors="replace")

    def __str__(self) -> str:
        return f"exit code {self.code} after {self.seconds:.1f} s\n{self.text}"


class RunTest(unittest.TestCase):
    """Each test has a folder of its own as the program's working directory."""

    def setUp(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="unipool-run-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.Write("small.txtpb", SETTINGS)
        self.Write("book.txt", SomeText(3000, seed=5))

    def Path(self, *parts: str) -> str:
        return os.path.join(self.folder, *parts)

    def Write(self, name: str, content: str | bytes) -> None:
        mode = "wb" if isinstance(content, bytes) else "w"
        with open(self.Path(name), mode) as file:
            file.write(content)

    def Start(self, *arguments: str, mpi: int = 0, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """mpi: ranks under mpirun; 0: without. environment: variables beside the usual ones."""
        command = ([MPIRUN, "-np", str(mpi)] if mpi else []) + [BINARY, *arguments]
        variables = {**os.environ, **JOB_ENVIRONMENT, **(environment or {})}
        process = subprocess.Popen(command, cwd=self.folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   start_new_session=True)
        self.addCleanup(self.End, process)
        return process

    def End(self, process: subprocess.Popen[bytes]) -> None:
        """Nothing is left behind, whatever a test found."""
        if process.poll() is None:
            for pid in [*RanksOf(process.pid).values(), process.pid]:
                os.kill(pid, signal.SIGKILL)
            process.communicate()
        for pipe in (process.stdout, process.stderr):
            if pipe:
                pipe.close()

    def Finish(self, process: subprocess.Popen[bytes], limit_seconds: float = 120) -> Outcome:
        begin = time.monotonic()
        try:
            stdout, stderr = process.communicate(timeout=limit_seconds)
        except subprocess.TimeoutExpired:
            ranks = RanksOf(process.pid)
            self.End(process)
            self.fail(f"{process.args!r} did not end within {limit_seconds} s (ranks {ranks})")
        return Outcome(process.returncode, stdout, stderr, time.monotonic() - begin)

    def Run(self, *arguments: str, mpi: int = 0, code: int = 0) -> Outcome:
        outcome = self.Finish(self.Start(*arguments, mpi=mpi))
        self.assertEqual(outcome.code, code, f"{' '.join(arguments)}, mpi={mpi}: {outcome}")
        return outcome

    def Train(self, *overrides: str, mpi: int = 0, code: int = 0) -> Outcome:
        return self.Run("train", "small.txtpb", *overrides, mpi=mpi, code=code)

    def EvalLoss(self, *arguments: str, mpi: int = 0) -> float:
        lines = self.Run("eval", "small.txtpb", "--json", *arguments, mpi=mpi).stdout.decode().splitlines()
        self.assertEqual(len(lines), 1, lines)
        loss: float = json.loads(lines[0])["loss"]
        return loss

    def Metrics(self, run_dir: str = "run") -> list[dict[str, Any]]:
        with open(self.Path(run_dir, "metrics.jsonl")) as file:
            return [json.loads(line) for line in file if line.endswith("\n")]  # a running program may be in its last line

    def MetricList(self) -> Any:
        """What a line of metrics.jsonl may hold, as the program says."""
        return json.loads(self.Run("metrics", "--json").stdout)

    def Steps(self, run_dir: str = "run") -> list[dict[str, Any]]:
        return [line for line in self.Metrics(run_dir) if "loss" in line]

    def ValidLosses(self, run_dir: str = "run") -> dict[int, float]:
        return {line["step"]: line["valid_loss"] for line in self.Metrics(run_dir) if "valid_loss" in line}

    def Results(self, run_dir: str = "run") -> list[dict[str, Any]]:
        """What must be equal bit for bit in equal runs: everything but what is measured, times and memory."""
        dropped = {metric["name"] for metric in self.MetricList() if metric["repeats"] == "measured"}
        self.assertIn("step_seconds", dropped)
        return [{key: value for key, value in line.items() if key not in dropped} for line in self.Metrics(run_dir)]

    def AssertLossesClose(self, run_dir: str, expected_dir: str, first_step: int = 1, tolerance: float = 1e-5) -> None:
        losses = {line["step"]: line["loss"] for line in self.Steps(run_dir)}
        expected = {line["step"]: line["loss"] for line in self.Steps(expected_dir)}
        self.assertEqual(losses.keys(), expected.keys())
        for step in range(first_step, max(expected) + 1):
            self.assertLessEqual(abs(losses[step] - expected[step]), tolerance * expected[step], f"step {step} of {run_dir}")

    def CopyCheckpoint(self, step: int, run_dir: str, source: str = "run") -> None:
        """A run that has got as far as this checkpoint of the source."""
        name = os.path.join("checkpoints", f"step-{step}")
        shutil.copytree(self.Path(source, name), self.Path(run_dir, name))
        shutil.copy(self.Path(source, "metrics.jsonl"), self.Path(run_dir))


def SomeText(count: int, seed: int) -> str:
    words = "the pool of experts is shared by all layers and every token finds one".split()
    generator = random.Random(seed)
    return " ".join(generator.choice(words) for _ in range(count)) + "\n"


def WriteMegatron(prefix: str, documents: list[list[int]]) -> None:
    """PREFIX.bin and PREFIX.idx of int32 tokens, as Megatron writes them."""
    with open(prefix + ".bin", "wb") as file:
        for tokens in documents:
            file.write(struct.pack(f"<{len(tokens)}i", *tokens))
    lengths = [len(tokens) for tokens in documents]
    pointers = [4 * sum(lengths[:i]) for i in range(len(lengths))]
    count = len(documents)
    with open(prefix + ".idx", "wb") as file:
        file.write(b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, 4, count, count + 1))
        file.write(struct.pack(f"<{count}i{count}q{count + 1}q", *lengths, *pointers, *range(count + 1)))


def ReadTensors(path: str) -> Tensors:
    """name -> (dtype, shape, bytes) of a safetensors file."""
    with open(path, "rb") as file:
        size, = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        data = file.read()
    return {name: (entry["dtype"], entry["shape"], data[slice(*entry["data_offsets"])])
            for name, entry in header.items() if name != "__metadata__"}


def WriteTensors(path: str, tensors: Tensors) -> None:
    header, offset = dict[str, Any](), 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            file.write(data)


def ReadFolder(folder: str) -> Tensors:
    tensors: Tensors = {}
    for name in sorted(os.listdir(folder)):
        if name.startswith("model") and name.endswith(".safetensors"):
            tensors.update(ReadTensors(os.path.join(folder, name)))
    return tensors


def RanksOf(mpirun_pid: int) -> dict[int, int]:
    """Process ids of the ranks that an mpirun has started on this machine, by rank."""
    ranks = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as file:
                parent = int(file.read().rsplit(")", 1)[1].split()[1])
            if parent != mpirun_pid:
                continue
            with open(f"/proc/{pid}/environ", "rb") as file:
                rank = re.search(rb"OMPI_COMM_WORLD_RANK=(\d+)", file.read())
            if rank:
                ranks[int(rank[1])] = int(pid)
        except OSError:
            pass
    return ranks


def IsAlive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def WaitUntil(condition: Callable[[], bool], what: str, limit_seconds: float = 60) -> None:
    end = time.monotonic() + limit_seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {limit_seconds} s for {what}")
        time.sleep(0.002)


def Main(usage: str | None) -> None:
    """NAME_test.py UNIPOOL_BINARY MPIRUN [unittest arguments]"""
    global BINARY, MPIRUN
    if len(sys.argv) < 3:
        sys.exit(f"{usage}\n\nUsage: {sys.argv[0]} UNIPOOL_BINARY MPIRUN [unittest arguments]")
    BINARY, MPIRUN = os.path.abspath(sys.argv[1]), sys.argv[2]
    unittest.main(argv=[sys.argv[0]] + sys.argv[3:], verbosity=2)
