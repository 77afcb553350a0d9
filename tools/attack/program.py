"""The program under attack: starts it in a world of ranks, ends it, judges how it ended, reads what it left.

Only the standard library. A `Run` has a folder as its working directory; paths in its arguments are relative to it.
"""
from __future__ import annotations

import dataclasses
import glob
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../gpu"))
from mpi_environment import MPI_ENVIRONMENT  # noqa: E402

RANKS = 4
NOBODY = 65534  # a user whom permissions bind
LIMIT_SECONDS = 20.0

# Small enough that a run is over in a fraction of a second, with all that a checkpoint can hold.
SETTINGS = """run_dir: "run"
model { layers: 2 hidden: 64 heads: 4 kv_heads: 2 seq_length: 32 vocab: 256 init_std: 0.08 }
moe { experts: 8 width: 64 balance_coeff: 3e-4 }
train { steps: 12 global_batch: 8 micro_batch: 1 lr: 3e-3 min_lr: 3e-4 save_every: 3 keep_checkpoints: 0 }
data { train: "book.txt" split: "90,10,0" }
parallel { watchdog_seconds: 60 }
"""

ENVIRONMENT = {**MPI_ENVIRONMENT, "OMPI_MCA_hwloc_base_binding_policy": "none", "OMP_NUM_THREADS": "1"}

# What a user never may see, whatever was wrong.
SIGNS_OF_A_BUG = re.compile(r"Check fail|stack trace|terminate called|Segmentation fault|\*\*\* SIG|core dumped|std::bad_alloc|"
                            r"Sanitizer|runtime error:|what\(\):|signal 6 |signal 11 ")
REFUSED, STUCK, STOPPED, NOT_SAVED = 2, 3, 75, 76
CODES = {0, REFUSED, STUCK, STOPPED, NOT_SAVED}


@dataclasses.dataclass
class Ending:
    """How a run ended. `code` is negative after a signal; `text` is all that it printed."""
    code: int
    text: str
    seconds: float
    hung: bool = False

    @property
    def sign(self) -> str:
        """The line that gives a bug away, or ""."""
        return next((line.strip() for line in self.text.splitlines() if SIGNS_OF_A_BUG.search(line)), "")

    @property
    def crashed(self) -> bool:
        return self.code not in CODES or bool(self.sign)

    @property
    def sentence(self) -> str:
        """The first line that explains a refusal, or ""."""
        return next((line.strip() for line in self.text.splitlines() if re.search(r"\berror\b", line, re.I)), "")

    @property
    def verdict(self) -> str:
        if self.hung:
            return "hang"
        if self.crashed:
            return "crash"
        if self.code == REFUSED:
            return "refused" if self.sentence else "refused without a sentence"
        return "done" if self.code == 0 else f"exit {self.code}"


@dataclasses.dataclass
class Program:
    binary: str
    mpirun: str = "mpirun"
    address_space_bytes: int = 0  # limit of each process; 0: none (a sanitizer needs terabytes)
    binary_of_scripts: str = ""   # the program where `binary` is a shell

    def __post_init__(self) -> None:
        self.binary = os.path.abspath(self.binary)

    def Knows(self, word: str) -> bool:
        """Does the program's help name this command or setting?"""
        done = subprocess.run([self.binary, "help"], capture_output=True, text=True, check=False)
        return bool(re.search(rf"\b{re.escape(word)}\b", done.stdout))

    def Start(self, folder: str, *arguments: str, world: str = "one", user: int | None = None,
              feed: bytes | None = None) -> subprocess.Popen[bytes]:
        """world: one, threads (RANKS threads) or mpi (RANKS processes). user: another user's id. feed: standard input."""
        command = [self.binary, *arguments]
        if world == "threads":
            command.append(f"parallel.ranks={RANKS}")
        elif world == "mpi":
            command = [self.mpirun, "-np", str(RANKS), *command]
        environment = {**os.environ, **ENVIRONMENT, "U": self.binary_of_scripts, "M": self.mpirun}
        identity: dict[str, object] = {}
        if user is not None:
            identity = {"user": user, "group": user, "extra_groups": []}
            environment["HOME"] = folder
        output = open(os.path.join(folder, "console"), "wb")
        stdin = subprocess.DEVNULL
        if feed is not None:
            with open(os.path.join(folder, "stdin"), "wb") as file:
                file.write(feed)
            stdin = open(os.path.join(folder, "stdin"), "rb")  # type: ignore[assignment]
        with output:
            return subprocess.Popen(command, cwd=folder, env=environment, stdin=stdin, stdout=output, stderr=subprocess.STDOUT,
                                    start_new_session=True, preexec_fn=self.Limit, **identity)  # type: ignore[call-overload]

    def Limit(self) -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if self.address_space_bytes:
            resource.setrlimit(resource.RLIMIT_AS, (self.address_space_bytes, self.address_space_bytes))

    def Finish(self, folder: str, process: subprocess.Popen[bytes], limit_seconds: float = LIMIT_SECONDS) -> Ending:
        begin, hung = time.monotonic(), False
        try:
            process.wait(timeout=limit_seconds)
        except subprocess.TimeoutExpired:
            hung = True
            EndTree(process)
        EndSession(process.pid)
        with open(os.path.join(folder, "console"), "rb") as file:
            text = file.read(1 << 20).decode(errors="replace")
        return Ending(process.returncode, text, time.monotonic() - begin, hung)

    def Run(self, folder: str, *arguments: str, world: str = "one", user: int | None = None, feed: bytes | None = None,
            limit_seconds: float = LIMIT_SECONDS) -> Ending:
        return self.Finish(folder, self.Start(folder, *arguments, world=world, user=user, feed=feed), limit_seconds)


def Parents() -> dict[int, int]:
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                parents[int(name)] = int(file.read().rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError):
            pass
    return parents


def Children(pid: int) -> list[int]:
    """All descendants of the process."""
    parents = Parents()
    found = [pid]
    for above in found:
        found.extend(child for child, parent in parents.items() if parent == above)
    return found[1:]


def RanksOf(mpirun: int) -> list[int]:
    """Process ids of the ranks that an mpirun has started on this machine."""
    ranks = []
    for pid in Children(mpirun):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                if b"OMPI_COMM_WORLD_RANK=" in file.read():
                    ranks.append(pid)
        except OSError:
            pass
    return ranks


def IsAlive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False


def Signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def EndTree(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and all that it started, by their ids; the process first, so that it does nothing about the others."""
    for pid in [process.pid, *Children(process.pid)]:
        Signal(pid, signal.SIGKILL)
    process.wait()


def EndSession(leader: int) -> None:
    """Ends what a script started in the background and left."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                session = int(file.read().rsplit(")", 1)[1].split()[3])
            if session == leader:
                Signal(int(name), signal.SIGKILL)
        except (OSError, IndexError):
            pass


UNSTEADY = re.compile(r"second|time|memory|host|pid|rate$|_ms$|wire_bytes|waited_for|hidden_share")


def Curve(run_dir: str) -> list[dict[str, object]]:
    """The lines of metrics.jsonl that a step or a validation wrote, without times and memory: equal in equal runs."""
    lines = []
    with open(os.path.join(run_dir, "metrics.jsonl"), encoding="utf-8") as file:
        for text in file:
            line = json.loads(text)
            if "step" in line:
                lines.append({key: value for key, value in line.items() if not UNSTEADY.search(key)})
    return lines


def Content(path: str) -> str:
    """A word that is equal for files of equal bytes."""
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def Tensors(checkpoint: str) -> dict[str, str]:
    """The content of each file of weights and of optimizer state."""
    return {os.path.basename(path): Content(path) for path in sorted(glob.glob(os.path.join(checkpoint, "*.safetensors")))}


def Snapshot(folder: str) -> dict[str, str]:
    """path -> content of what is readable below the folder."""
    found = {}
    for path in Walk(folder):
        if os.path.islink(path) or not os.path.isfile(path):
            found[os.path.relpath(path, folder)] = os.readlink(path) if os.path.islink(path) else "not a file"
        elif os.path.basename(path) not in ("lock", "state.json", "heartbeat", "console"):
            found[os.path.relpath(path, folder)] = Content(path)
    return found


def Walk(folder: str) -> Iterator[str]:
    for root, folders, files in os.walk(folder):
        yield from (os.path.join(root, name) for name in [*files, *folders] if name in files or not os.listdir(root + "/" + name))


def WriteText(path: str, count: int = 20000) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(" ".join(map(str, range(1, count)))[:60000])


def FreshFolder(path: str) -> str:
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def Waiting(path: str) -> list[str]:
    """Patterns of the names of cases that wait for a mend and are not run: the file's lines but for comments."""
    if not path:
        return []
    with open(path, encoding="utf-8") as file:
        return [line.strip() for line in file if line.strip() and not line.startswith("#")]


def GiveTo(user: int, folder: str) -> None:
    """The folder and all in it belong to this user."""
    for root, folders, files in os.walk(folder):
        for path in [root, *(os.path.join(root, name) for name in folders + files)]:
            os.chown(path, user, user, follow_symlinks=False)


def Leftovers() -> set[str]:
    """What runs of this user left on the machine: shared memory that nobody maps, session folders of no living mpirun."""
    mapped, alive = set[str](), {str(pid) for pid in Parents()}
    for pid in alive:
        try:
            with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as file:
                mapped.update(re.findall(r"/dev/shm/\S+", file.read()))
        except OSError:
            pass
    names = [*glob.glob("/dev/shm/vader_segment.*"), *glob.glob("/dev/shm/sm_segment.*"), *glob.glob("/dev/shm/open_mpi.*")]
    sessions = glob.glob(os.path.join(os.environ.get("TMPDIR", "/tmp"), "ompi.*", "pid.*"))
    mine = {name for name in names if name not in mapped}
    mine.update(path for path in sessions if path.rsplit(".", 1)[1] not in alive)
    return {path for path in mine if os.path.exists(path) and os.stat(path).st_uid == os.getuid()}
