#!/usr/bin/env python3
"""Feeds mutated inputs to the program and looks for what never may happen: a crash, a hang over 20 s, a half-written file, a
refusal without a sentence, a result that is no number. Each failure is kept as a file that --replay repeats; files like it in
tests/fuzz/corpus are run by `tools/dev test`.

Exit status: 0 nothing was found, 1 otherwise.
"""
from __future__ import annotations

import argparse
import collections
import glob
import hashlib
import os
import random
import re
import shutil
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
from cases import Case, Try  # noqa: E402
from program import Program, Waiting  # noqa: E402
from targets import GENERATED, TARGETS, CaseMaker, MakeSeeds  # noqa: E402

ADDRESS_SPACE_BYTES = 6 << 30
SCHEMA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "configs", "config.proto")


def Kind(problem: str) -> str:
    """Problems of one kind have one key: numbers and names are left out, but for the name of an exception."""
    return re.sub(r"0x[0-9a-f]+|\d+|(?<!instance of )'[^']*'|\"[^\"]*\"", "#", problem)[:150]


def ReadCases(paths: list[str]) -> list[Case]:
    """paths: files of cases, or folders of such files."""
    cases = []
    for path in paths:
        for name in sorted(glob.glob(os.path.join(path, "*.jsonl"))) if os.path.isdir(path) else [path]:
            with open(name, encoding="utf-8") as file:
                cases += [Case.FromJson(line) for line in file if line.strip() and not line.startswith("#")]
    return cases


class Fuzzer:
    def __init__(self, program: Program, work: str, failures: str) -> None:
        self.program, self.failures = program, failures
        self.seeds, self.folder = os.path.join(work, "seeds"), os.path.join(work, "case")
        MakeSeeds(program, self.seeds)
        self.counts = collections.Counter[str]()
        self.found = collections.defaultdict[str, list[str]](list)

    def Try(self, case: Case) -> str:
        problem, ending = Try(self.program, case, self.seeds, self.folder)
        self.counts[f"{case.name}: {'long' if ending.hung and not problem else ending.verdict}"] += 1
        return problem

    def CheckBaseLines(self, names: list[str]) -> None:
        """Unchanged inputs are accepted by every command; otherwise mutations of them prove little."""
        for name in names:
            for command in TARGETS[name].commands if name in TARGETS else []:
                problem, ending = Try(self.program, Case(name, command), self.seeds, self.folder)
                if problem or ending.code:
                    raise SystemExit(f"{name}: the unchanged input: {problem}, exit {ending.code}: {ending.text}")

    def Keep(self, case: Case, problem: str) -> str:
        """The file that repeats the failure; one for each kind of failure."""
        os.makedirs(self.failures, exist_ok=True)
        path = os.path.join(self.failures, f"{case.name}-{hashlib.sha256(Kind(problem).encode()).hexdigest()[:8]}.jsonl")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"# {problem}\n{case.ToJson()}\n".replace("\0", "\\0"))
        return path

    def Fuzz(self, names: list[str], minutes: float, choose: random.Random) -> None:
        maker, end = CaseMaker(self.seeds, SCHEMA, choose), time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            case = maker.Make(choose.choice(names))
            problem = self.Try(case)
            if problem:
                kind = f"{case.name}: {Kind(problem)}"
                if not self.found[kind]:
                    print(f"  {case.name}: {problem}\n      {self.Keep(case, problem)}", flush=True)
                self.found[kind].append(problem)

    def Replay(self, cases: list[Case]) -> int:
        failed = 0
        for case in cases:
            if not self.program.address_space_bytes and "ulimit -v" in case.command[-1]:
                print(f"  {case.name}: left out, a sanitizer needs more address space")
                continue
            problem = self.Try(case)
            if problem:
                failed += 1
                print(f"  {case.name}: {problem}\n      {' '.join(case.command)[:200]}  {str(case.files)[:200]}", flush=True)
        return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="the built program")
    parser.add_argument("minutes", type=float, nargs="?", default=1)
    parser.add_argument("--only", default="", help="kinds of input, separated by commas; of: " + " ".join([*TARGETS, *GENERATED]))
    parser.add_argument("--failures", default="build/fuzz-failures", help="folder for what failed")
    parser.add_argument("--replay", nargs="+", default=[], help="files or folders of cases; nothing else is run")
    parser.add_argument("--waiting", default="", help="file with the names of cases that are not run, a line each")
    parser.add_argument("--no-memory-limit", action="store_true", help="for a program that a sanitizer instruments")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    names = options.only.split(",") if options.only else [*TARGETS, *GENERATED]
    unknown = [name for name in names if name not in [*TARGETS, *GENERATED]]
    if unknown:
        parser.error(f"--only: there is no {', '.join(unknown)}")
    program = Program(options.program, address_space_bytes=0 if options.no_memory_limit else ADDRESS_SPACE_BYTES)
    work, begin = tempfile.mkdtemp(prefix="unipool-fuzz-"), time.monotonic()
    os.chmod(work, 0o755)
    try:
        fuzzer = Fuzzer(program, work, options.failures)
        if options.replay:
            cases = ReadCases(options.replay)
            waiting = set(Waiting(options.waiting))
            running = [case for case in cases if case.name not in waiting]
            failed = fuzzer.Replay(running)
            print(f"corpus: {len(running)} cases in {time.monotonic() - begin:.0f} s, {failed} failed; "
                  f"{len(cases) - len(running)} wait for a mend and were not run")
            return 1 if failed or not cases else 0
        fuzzer.CheckBaseLines(names)
        fuzzer.Fuzz(names, options.minutes, random.Random(options.seed))
        for name, count in sorted(fuzzer.counts.items()):
            print(f"  {name:36} {count}")
        failures = sum(map(len, fuzzer.found.values()))
        print(f"fuzz, seed {options.seed}: {sum(fuzzer.counts.values())} cases in {time.monotonic() - begin:.0f} s, "
              f"{failures} failures of {len(fuzzer.found)} kinds")
        return 1 if failures else 0
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
