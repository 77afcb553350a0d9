"""What tests of submitted runs share: a folder with settings and text, the program's commands on node n0, waiting, and the run
without a break to compare with. A test waits for conditions. Limits are in seconds of an idle machine, and go on as much slower
as the machine is busier. Where a test acts in the middle of a run, the run waits for it there (hold.c)."""
import json
import os
import random
import re
import subprocess
import threading
import time
import unittest
from collections.abc import Callable
from typing import Any

from slurm_cluster import Cluster

BINARY = HOLD = ""  # the program; hold.c as a library
CORES = len(os.sched_getaffinity(0))
CLUSTER: Cluster
MEASURED = {"tokens_per_second", "step_seconds", "balance_seconds", "peak_memory_bytes", "peak_memory_rank", "peak_memory", "peak_memory_rows",
            "wire_bytes", "wire_bytes_inter", "blocked_ms", "idle_ms", "exposed_ms", "hidden_share", "waited_for_rank",
            "waited_for_share"}
MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMPI_MCA_mpi_yield_when_idle": "1",
       "OMP_NUM_THREADS": "1", "PMIX_MCA_gds": "hash"}

SETTINGS = '''model { layers: 2 hidden: 16 heads: 2 kv_heads: 1 seq_length: 16 vocab: 256 init_std: 0.05 }
moe { experts: 6 width: 16 router_constant: 2 balance_coeff: 1e-3 }
train { steps: 60 global_batch: 8 micro_batch: 2 lr: 3e-3 save_every: 0 eval_every: 0 }
data { train: "book.txt" split: "90,10,0" }
parallel { stages: 2 replace_every: 20 watchdog_seconds: 600 }
'''
ODD = "it's a \"run\" $(touch oops) `touch oops` ;&|<> #%j é"  # part of a folder's name

SLOW_NODE = 7  # of the cluster's nodes

REPORT: dict[str, str] = {}  # test: what was measured
LOCK = threading.Lock()


def Busy() -> float:
    """How many times slower than on an idle machine things may be: processes that compute or want to, for each core."""
    with open("/proc/loadavg", encoding="utf-8") as file:
        words = file.read().split()
    return max(1.0, float(words[0]) / CORES, int(words[3].split("/")[0]) / CORES)


def ShortWatchdog() -> int:
    """Seconds of silence after which a rank is stuck; no rank that is well is silent so long, even on a busy machine."""
    return min(30, round(8 * Busy()))


def Expand(text: str) -> list[int]:
    """Numbers of the nodes of "n[0-1,3]"."""
    nodes: list[int] = []
    for part in re.sub(r"n|\[|\]", "", text).split(","):
        first, _, last = part.partition("-")
        nodes.extend(range(int(first), int(last or first) + 1))
    return nodes


def WriteText(path: str, words: int = 4000) -> None:
    known = "the pool of experts is shared by all layers and every token finds one".split()
    generator = random.Random(5)
    with open(path, "w", encoding="utf-8") as file:
        file.write(" ".join(generator.choice(known) for _ in range(words)) + "\n")


class SlurmTest(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = os.path.join(CLUSTER.root, "work", self._testMethodName)
        self.wholes: dict[tuple[int, tuple[str, ...]], str] = {}
        os.makedirs(self.folder)
        self.Write("small.txtpb", SETTINGS)
        WriteText(self.Path("book.txt"))
        self.environment = {**CLUSTER.environment, **MPI, "XDG_CONFIG_HOME": self.folder}

    def Path(self, *parts: str) -> str:
        return os.path.join(self.folder, *parts)

    def Write(self, name: str, text: str) -> None:
        with open(self.Path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def Read(self, *parts: str) -> str:
        with open(self.Path(*parts), encoding="utf-8", errors="replace") as file:
            return file.read()

    def OnNode(self, *command: str, code: int | None = 0, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(CLUSTER.On(0, *command), cwd=self.folder, env={**self.environment, **(environment or {})},
                              capture_output=True, text=True, errors="replace", check=False)
        if code is not None:
            self.assertEqual(done.returncode, code, f"{command}\n{done.stdout}{done.stderr}")
        return done

    def Submit(self, run_dir: str, *arguments: str, code: int = 0, environment: dict[str, str] | None = None) -> str:
        """Returns the job's id. Later arguments win over these."""
        done = self.OnNode(BINARY, "submit", "small.txtpb", f"run_dir={run_dir}", "--nodes=2", "--ranks_per_node=2", "--time=10",
                           "--parsable", "--force", *arguments, code=code, environment=environment)
        return done.stdout.strip() if code == 0 else done.stdout + done.stderr

    def Status(self, run_dir: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.OnNode(BINARY, "status", run_dir, "--json").stdout)
        return answer

    def State(self, run_dir: str) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self.Read(run_dir, "state.json"))
            return state
        except FileNotFoundError:
            return {}

    def Ledger(self, run_dir: str, event: str) -> list[dict[str, Any]]:
        try:
            lines = self.Read(run_dir, "submit", "ledger.jsonl").splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines if f'"event":"{event}"' in line.replace('": "', '":"')]

    def Ends(self, run_dir: str) -> list[tuple[int, str]]:
        """Without launches that Open MPI lost: on a busy machine a rank may crash in MPI_Init when a connection comes early."""
        return [(end["exit_code"], end["action"]) for end in self.Ledger(run_dir, "end")
                if end["steps"] > 0 or "ended without a word" not in end["reason"]]

    def WaitFor(self, condition: Callable[[], object], what: str, limit: float = 120, every: float = 0.1) -> float:
        """Returns how long it took. Both in seconds of an idle machine."""
        waited, last = 0.0, time.monotonic()
        while not condition():
            now = time.monotonic()
            waited, last = waited + (now - last) / Busy(), now
            if waited > limit:
                logs = subprocess.run(f"tail -n 25 {self.folder}/*/logs/* {self.folder}/*/submit/ledger.jsonl", shell=True,
                                      capture_output=True, text=True, errors="replace", check=False).stdout
                self.fail(f"no {what} within {limit} s\n{self.OnNode('squeue', code=None).stdout}\n{logs}")
            time.sleep(every)
        return waited

    def Hold(self, run_dir: str, lines: int) -> None:
        """The starts of a run wait after so many steps of their own, one after the other, until Release()."""
        self.Preload()
        os.makedirs(self.Path(run_dir), exist_ok=True)
        self.Write(f"{run_dir}/next", str(lines))
        os.replace(self.Path(run_dir, "next"), self.Path(run_dir, "hold"))

    def Pace(self, run_dir: str, microseconds: int) -> None:
        """So long the starts of a run sleep after each step."""
        self.Preload()
        os.makedirs(self.Path(run_dir), exist_ok=True)
        self.Write(f"{run_dir}/pace", str(microseconds))

    def Preload(self) -> None:
        """Runs that are submitted from now on heed hold, hold_save and pace of their folder."""
        os.makedirs(self.Path("unipool"), exist_ok=True)
        self.Write("unipool/cluster.txtpb", f'setup_line: "export LD_PRELOAD={HOLD}"\n')

    def WaitForHeld(self, run_dir: str, start: int = 0) -> None:
        self.WaitFor(lambda: len(self.Ledger(run_dir, "start")) > start and self.State(run_dir).get("restart_count") == start
                     and os.path.exists(self.Path(run_dir, "held")), f"step of start {start} at which to act")

    def Release(self, run_dir: str, name: str = "hold") -> None:
        os.remove(self.Path(run_dir, name))

    def IsQueued(self, run_dir: str) -> bool:
        jobs = {job for line in self.Ledger(run_dir, "submitted") for job in line["jobs"]}
        jobs |= {line["job"] for line in self.Ledger(run_dir, "start")}
        answer = self.OnNode("squeue", "--noheader", "--jobs", ",".join(sorted(jobs)), code=None)
        return bool(answer.stdout.strip()) or (answer.returncode != 0 and "Invalid job id" not in answer.stderr)

    def LeavesTheQueue(self, run_dir: str, limit: float = 60) -> None:
        self.WaitFor(lambda: not self.IsQueued(run_dir), "empty queue", limit, every=0.5)

    def WaitForEnd(self, run_dir: str, limit: float = 150) -> None:
        """Until a start has ended and no job of the run is queued."""
        self.WaitFor(lambda: self.Ledger(run_dir, "end"), "end of a start", limit)
        self.LeavesTheQueue(run_dir, limit)

    def WaitForEnds(self, run_dir: str, ends: list[tuple[int, str]], limit: float = 60) -> None:
        """Exit code and action of all starts that the script judged."""
        self.WaitFor(lambda: len(self.Ends(run_dir)) >= len(ends), f"end {len(ends)} of a start", limit)
        self.assertEqual(self.Ends(run_dir), ends)

    def Finishes(self, run_dir: str, limit: float = 150) -> None:
        self.WaitFor(lambda: self.State(run_dir).get("status") == "finished", "end of the run", limit)

    def Metrics(self, run_dir: str, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
        try:
            lines = self.Read(run_dir, name).splitlines()
        except FileNotFoundError:
            return []
        return [{key: value for key, value in json.loads(line).items() if key not in MEASURED} for line in lines]

    def Whole(self, *settings: str, ranks: int = 4) -> list[dict[str, Any]]:
        """The metrics of a run without a break, as threads of one process."""
        run_dir = self.wholes.setdefault((ranks, settings), f"whole{len(self.wholes) or ''}")
        done = subprocess.run([BINARY, "train", "small.txtpb", f"run_dir={run_dir}", f"parallel.ranks={ranks}", *settings],
                              cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return self.Metrics(run_dir)

    def IsAsWhole(self, run_dir: str, *settings: str, ranks: int = 4) -> None:
        whole = self.Whole(*settings, ranks=ranks)
        self.assertEqual(self.Metrics(run_dir), whole)
        starts, twice = self.Ledger(run_dir, "start"), len(self.Metrics(run_dir, "metrics.replaced.jsonl"))
        self.Report(f"{len(starts) - 1} restarts, {twice} steps done twice, {len(whole)} lines equal bit for bit")

    def Report(self, text: str) -> None:
        with LOCK:  # tests run side by side
            known = REPORT.get(self._testMethodName)
            REPORT[self._testMethodName] = f"{known}; {text}" if known else text

    def RankPid(self, node: int, run_dir: str, local: int = 0) -> int:
        """A training process of this run on a node."""
        found = []
        for pid in CLUSTER.Pids(node):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
            except OSError:
                continue
            if words[0].decode() == BINARY and words[1:2] == [b"train"] and f"run_dir={self.Path(run_dir)}".encode() in words:
                found.append(pid)
        self.assertGreater(len(found), local, f"no rank of {run_dir} on node {node}")
        return sorted(found)[local]

    def Nodes(self, run_dir: str, start: int = -1) -> list[int]:
        return Expand(self.Ledger(run_dir, "start")[start]["nodes"])
