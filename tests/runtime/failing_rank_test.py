#!/usr/bin/env python3
"""How a job ends when one of its ranks fails, dies or is stuck: exit code, words, and in time, as threads and under mpirun.

failing_rank_test.py PATH_OF_failing_rank PATH_OF_mpirun
"""
import concurrent.futures
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable

RANKS = 3
LIMIT_SECONDS = 20  # the watchdog's second, a second for answers, mpirun's start and end, and a busy machine
AT_ONCE = 4  # most of the time is waiting

USER_ERROR, STUCK, NOT_SAVED = 2, 3, 76
HOST = re.escape(os.uname().nodename)
BOTH, THREADS, MPI = ("threads", "mpi"), ("threads",), ("mpi",)

# mode, worlds, exit code (None: any but 0), what must be said (exactly once each), what must not be said
Case = tuple[str, tuple[str, ...], int | None, list[str], list[str]]
CASES: list[Case] = [
    ("none", BOTH, 0, [], ["error", "stuck", "Check failed"]),
    ("progress", MPI, 0, [], ["error", "stuck", "Check failed"]),  # with a progress thread
    ("user_error_all", BOTH, USER_ERROR, [r"error: field model\.heads is 5: it must divide model\.hidden, 64"],
     ["Check failed", "stack trace", "terminate called", "stuck"]),
    ("user_error_alone", BOTH, USER_ERROR, [r"error: rank 1: cannot open shard-1\.bin: copy it to this host"],
     ["Check failed", "stack trace", "terminate called", "stuck"]),
    ("spin", BOTH, STUCK,
     [r"stuck: rank \d has waited \d+\.\d s in 'combine forward', step 7, slot 3 for rank 1; "
      rf"no sign of life from rank 1 \(busy, stopped or dead\) on {HOST}", rf"recorded: 3, \d+ letters, suspects {HOST}"],
     ["Check failed", "stack trace"]),
    ("stop", MPI, STUCK,
     [r"stuck: rank \d has waited \d+\.\d s in 'combine forward', step 7, slot 3 for rank 1; "
      r"no sign of life from rank 1 \("], ["Check failed", "stack trace"]),
    ("chain", BOTH, STUCK,  # whoever loses patience first, rank 1 alone is to blame
     [r"stuck: rank [02] has waited \d+\.\d s in '(second|first) link', step 7, slot [12] for rank [21]; "
      r"no sign of life from rank 1 \(.*; rank [02] waits in '(first|second) link', step 7, slot [12] for rank [12]"],
     ["Check failed"]),
    ("leave", BOTH, STUCK, [r"stuck: rank \d has waited .* for rank 1; .*rank 1 has left"], ["Check failed"]),
    ("late", BOTH, STUCK, [r"stuck: other ranks have ended, and rank 1 (on \S+ )?did not follow"], ["Check failed"]),
    ("not_saved", BOTH, NOT_SAVED, [r"error: rank 1: model\.safetensors: no space", r"recorded: 76"], ["stuck"]),
    # Who writes or reads is not stuck, however long the others wait; a limit of its own ends it.
    ("slow_files", BOTH, 0, [], ["error", "stuck", "Check failed"]),
    ("endless_files", BOTH, STUCK, [r"stuck: rank \d has waited .* for rank 1; .*rank 1 is at file work: slow file, for \d\.\d s"],
     ["Check failed"]),
    ("suspend", BOTH, 0, [], ["error", "stuck", "Check failed"]),
    ("kill", MPI, None, [r"(?s)rank 1 .{0,120}?exited\s+on\s+signal\s+9"], ["stuck"]),
    ("check", BOTH, None, [r"Check failed: 2 \* 2 == 5 \(4 vs\. 5\)\s+on rank 1", r"recorded: 134"], ["stuck"]),
    ("exception", BOTH, USER_ERROR, [r"error: rank 1: an unexpected thing"], ["stuck", "terminate called"]),
    ("sizes", BOTH, None, [], ["stuck"]),
]


def children(parent: int) -> list[int]:
    """Processes that this one has started, and it."""
    found = [parent]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if int(stat.read().rsplit(")", 1)[1].split()[1]) == parent:
                    found.append(int(pid))
        except OSError:
            pass
    return found


def suspend(process: "subprocess.Popen[str]") -> None:
    """All ranks stand still for longer than the watchdog's time, and go on."""
    time.sleep(1.5)
    pids = children(process.pid)
    for number in [signal.SIGSTOP, signal.SIGCONT]:
        for pid in pids:
            os.kill(pid, number)
        time.sleep(2.5)


def run(command: list[str],
        meanwhile: "Callable[[subprocess.Popen[str]], None] | None" = None) -> tuple[int | None, str, float]:
    """Exit code (None: it did not end), output, seconds."""
    begin = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                               start_new_session=True)
    if meanwhile:
        meanwhile(process)
    try:
        output, _ = process.communicate(timeout=LIMIT_SECONDS)
        code: int | None = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        code = None
    return code, output, time.monotonic() - begin


def problems_of(case: Case, code: int | None, output: str) -> list[str]:
    mode, _, expected_code, said, unsaid = case
    problems = []
    if code is None:
        problems.append(f"did not end within {LIMIT_SECONDS} s")
    elif expected_code is None and code == 0 or expected_code is not None and code != expected_code:
        problems.append(f"exit code {code} instead of {'a failure' if expected_code is None else expected_code}")
    for pattern in said:
        count = len(re.findall(pattern, output))
        if count != 1:
            problems.append(f"says {count} times instead of once: {pattern}")
    for text in unsaid:
        if text in output:
            problems.append(f"must not say: {text}")
    if mode == "sizes" and not re.search(
            r"rank 1 sends 17 bytes and rank 2 expects 23|"
            r"\(17 vs\. 23\) bytes that rank 1 sends in 'disagreement', step 5, slot 6 and rank 2 expects", output):
        problems.append("does not name both sizes")
    return problems


def survivors(program: str) -> list[int]:
    """Processes of the program that still run."""
    name = os.path.realpath(program)
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                zombie = stat.read().rsplit(")", 1)[1].split()[0] == "Z"
            if not zombie and os.path.realpath(f"/proc/{pid}/exe") == name:
                found.append(int(pid))
        except OSError:
            pass
    return found


def run_case(program: str, mpirun: str, world: str, case: Case) -> tuple[str, bool]:
    """What to print, and whether it went wrong."""
    mode = case[0]
    command = [program, "steps" if mode == "suspend" else mode, str(RANKS)]
    if world == "mpi":
        command = [mpirun, "-np", str(RANKS)] + command
    code, output, seconds = run(command, suspend if mode == "suspend" else None)
    problems = problems_of(case, code, output)
    lines = [f"{'FAILED' if problems else 'ok':6} {mode:16} {world:8} exit code {code}, {seconds:.1f} s"]
    if problems:
        lines += ["       " + line for line in problems + output.splitlines()]
    return "\n".join(lines), bool(problems)


def main() -> int:
    program, mpirun = sys.argv[1:3]
    cases = [(world, case) for case in CASES for world in case[1]]
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        for text, wrong in pool.map(lambda item: run_case(program, mpirun, *item), cases):
            print(text, flush=True)
            failed += wrong
    time.sleep(0.2)
    left = survivors(program)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    if left:
        print(f"FAILED: jobs left processes behind: {left}")
    print(f"{len(cases) - failed} of {len(cases)} jobs ended as they should")
    return 1 if failed or left else 0


if __name__ == "__main__":
    sys.exit(main())
