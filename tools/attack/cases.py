"""A case of an attack on inputs: changed files in a workspace, a command, and what may come of it. Cases are kept as JSON, a
line each, so that what once failed can be repeated anywhere.

{"name": ..., "files": {PATH: CHANGE}, "command": [ARGUMENT, ...]} and, where they differ from the default, "world", "expect"
(refused, done; else either), "says" (a pattern that the output matches) and "limit_seconds". The command may be ["bash", "-c",
SCRIPT], where $U is the program and $M mpirun. A CHANGE of the workspace's file is
  {"text": T}                      these bytes (T in Latin-1, or with "utf8": true in UTF-8; with "times": N so often)
  {"edits": [[AT, REMOVED, T]]}    bytes removed and inserted, one edit after the other, T in Latin-1
  {"json": [[KEY, ...], VALUE]}    another value in a JSON file
  {"number": [TENSOR, AT, VALUE]}  another number in a safetensors file: "nan", "inf" or digits
  {"place": "fifo" | "folder" | "missing" | "link" | "loop" | "closed"}
"""
from __future__ import annotations

import dataclasses
import glob
import json
import os
import re
import shutil
import struct
import time
from typing import Any

from program import NOBODY, REFUSED, Ending, GiveTo, Program

Change = dict[str, Any]
MOVED_WITHIN_SECONDS = 5.0
NO_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:nan|inf)\b", re.I)


@dataclasses.dataclass
class Case:
    name: str
    command: list[str]
    files: dict[str, Change] = dataclasses.field(default_factory=dict)
    world: str = "one"
    bound: bool = False  # run by a user whom permissions bind: not by root
    expect: str = ""
    says: str = ""
    limit_seconds: float = 20.0

    def ToJson(self) -> str:
        fields = dataclasses.asdict(self)
        defaults = dataclasses.asdict(Case("", []))
        return json.dumps({key: value for key, value in fields.items() if key in ("name", "command") or value != defaults[key]})

    @staticmethod
    def FromJson(line: str) -> Case:
        return Case(**json.loads(line))


def EditsBetween(old: bytes, new: bytes) -> list[list[Any]]:
    """The one edit that makes `new` of `old`."""
    begin = len(os.path.commonprefix([old, new]))
    ends = 0
    most = min(len(old), len(new)) - begin
    while ends < most and old[-1 - ends] == new[-1 - ends]:
        ends += 1
    return [[begin, len(old) - begin - ends, new[begin:len(new) - ends].decode("latin-1")]]


def Applied(old: bytes, change: Change) -> bytes:
    if "text" in change:
        return str(change["text"]).encode("utf-8" if change.get("utf8") else "latin-1") * int(change.get("times", 1))
    if "edits" in change:
        for place, removed, text in change["edits"]:
            old = old[:place] + text.encode("latin-1") + old[place + removed:]
        return old
    if "json" in change:
        path, value = change["json"]
        document = holder = json.loads(old)
        for key in path[:-1]:
            holder = holder[key]
        holder[path[-1]] = value
        return json.dumps(document).encode()
    name, place, value = change["number"]
    size = int.from_bytes(old[:8], "little")
    begin = 8 + size + json.loads(old[8:8 + size])[name]["data_offsets"][0] + 4 * place
    return old[:begin] + struct.pack("<f", float(value)) + old[begin + 4:]


def Place(path: str, kind: str) -> None:
    if kind == "closed" and os.path.exists(path):
        os.chmod(path, 0)
        return
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.remove(path)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        os.mkdir(path)
    elif kind == "closed":
        os.mkdir(path, 0)
    elif kind in ("link", "loop"):
        os.symlink("/nowhere/at/all" if kind == "link" else os.path.basename(path), path)


def Prepare(case: Case, seeds: str, folder: str) -> None:
    """Makes `folder` a workspace with the case's changes."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(seeds, folder)
    for name, change in case.files.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if "place" in change:
            Place(path, change["place"])
            continue
        old = b""
        if os.path.exists(path):
            with open(path, "rb") as file:
                old = file.read()
        with open(path, "wb") as file:
            file.write(Applied(old, change))


def TokenFileProblem(prefix: str) -> str:
    """Why PREFIX.bin and PREFIX.idx are no pair, or ""."""
    with open(prefix + ".idx", "rb") as file:
        index = file.read()
    if index[:9] != b"MMIDIDX\0\0":
        return "the .idx has no magic"
    _, dtype, count = struct.unpack_from("<QBQ", index, 9)
    width = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 8: 2}[dtype]
    tokens = sum(struct.unpack_from(f"<{count}i", index, 34))
    size = os.path.getsize(prefix + ".bin")
    return "" if size == tokens * width else f"the .bin has {size} bytes for {tokens} tokens"


def HalfWritten(case: Case, folder: str, ending: Ending) -> str:
    """What the command left that is neither whole nor absent, or ""."""
    found = glob.glob(os.path.join(folder, "out*"))
    if case.command[0] == "tokenize" and found:
        parts = [os.path.basename(path) for path in found if not path.endswith((".bin", ".idx", ".tokenizer.json"))]
        if parts or ending.code:
            return f"left {', '.join(parts or map(os.path.basename, found))}, exit {ending.code}"
        for path in found:
            problem = TokenFileProblem(path.removesuffix(".tokenizer.json").removesuffix(".bin").removesuffix(".idx"))
            if problem:
                return problem
    partial = glob.glob(os.path.join(folder, "*", "checkpoints", "step-*.partial"))
    if partial and ending.code in (0, REFUSED):
        return f"left {os.path.basename(partial[0])}"
    for path in glob.glob(os.path.join(folder, "*", "metrics.jsonl")):
        if os.path.isfile(path) and os.path.relpath(path, folder) not in case.files:
            with open(path, encoding="utf-8", errors="replace") as file:
                for line in file:
                    if not line.endswith("}\n") or NO_NUMBER.search(line):
                        return f"metrics.jsonl: {line[:120]}"
    return ""


def LostHistory(case: Case, seeds: str, folder: str) -> bool:
    """Does run/metrics.jsonl no longer begin as it did, though no option asked for a new start?"""
    name = "run/metrics.jsonl"
    if name in case.files or "--anew" in " ".join(case.command):
        return False
    with open(os.path.join(seeds, name), "rb") as file:
        first = file.readline()
    path = os.path.join(folder, name)
    if not os.path.isfile(path):
        return True
    with open(path, "rb") as file:
        return file.readline() != first


def IsMoving(folder: str) -> bool:
    """Did the run write a line of metrics or of output lately? Then it is long, and not hung."""
    paths = [*glob.glob(os.path.join(folder, "*", "metrics.jsonl")), os.path.join(folder, "console")]
    return any(time.time() - os.path.getmtime(path) < MOVED_WITHIN_SECONDS for path in paths if os.path.isfile(path))


def Try(program: Program, case: Case, seeds: str, folder: str) -> tuple[str, Ending]:
    """("", ending) if all is well, or what is wrong."""
    Prepare(case, seeds, folder)
    if case.command[0] == "bash":  # bash -c SCRIPT
        program = dataclasses.replace(program, binary="/bin/bash", binary_of_scripts=program.binary)
    user = NOBODY if case.bound and os.getuid() == 0 else None
    if user is not None:
        GiveTo(user, folder)
    arguments = case.command[1:] if program.binary_of_scripts else case.command
    ending = program.Run(folder, *arguments, world=case.world, user=user, limit_seconds=case.limit_seconds)
    if ending.hung:
        if case.expect:
            return f"still runs after {case.limit_seconds:.0f} s instead of {case.expect}", ending
        return ("" if IsMoving(folder) else f"hang over {case.limit_seconds:.0f} s"), ending
    if ending.crashed:
        return f"crash: exit {ending.code}: {ending.sign[:200]}", ending
    if ending.verdict == "refused without a sentence":
        return f"refused without a sentence: {ending.text[-200:].strip()}", ending
    half = HalfWritten(case, folder, ending)
    if half:
        return f"half-written: {half}", ending
    if LostHistory(case, seeds, folder):
        return "history lost: the run's metrics begin anew", ending
    if ending.code == 0 and case.command[0] in ("eval", "info") and NO_NUMBER.search(ending.text):
        return f"prints what is no number: {NO_NUMBER.search(ending.text)}", ending
    if case.expect and ending.verdict != case.expect:
        return f"{ending.verdict} instead of {case.expect}: {(ending.sentence or ending.text.strip()[-200:])[:200]}", ending
    if case.says and not re.search(case.says, ending.text, re.I):
        return f"does not say /{case.says}/ but: {(ending.sentence or ending.text.strip()[-200:])[:200]}", ending
    return "", ending
