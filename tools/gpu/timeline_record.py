"""Reads a recorded time line (format: tools/gpu/timeline_file.h)."""
from __future__ import annotations

import collections
import re
from typing import NamedTuple, Optional

COPY_KINDS = {1: "host to device", 2: "device to host", 8: "device to device", 10: "between devices"}


class Broken(Exception):
    """The file is no record; the text says why."""


Stream = tuple[int, int, int]  # device, context, stream


class Operation(NamedTuple):
    """What a stream did. `what` is the record's letter: a kernel, a copy, or memory that was set."""
    start: int
    end: int
    stream: Stream
    what: str
    name: str
    unit: Optional[str]  # of our kernels, the file kernels/UNIT_cuda.cu
    kind: Optional[int]  # of a copy
    bytes: int


class Range(NamedTuple):
    """Of a host thread."""
    start: int
    end: int
    thread: str
    name: str


class Record(NamedTuple):
    streams: dict[Stream, list[Operation]]
    ranges: list[Range]
    overheads: list[tuple[int, int, int]]  # start, end, kind
    dropped: int
    is_complete: bool
    process: str


def ShortName(symbol: str, text: str) -> tuple[str, Optional[str]]:
    """(name for people, unit or None) of a kernel."""
    file = re.search(r"_GLOBAL__N__[0-9a-f]{8}_\d+_(\w+?)_cu_[0-9a-f]{8}", symbol)
    unit = file[1].removesuffix("_cuda") if file else None
    name = text.replace("(anonymous namespace)::", "").replace("__nv_bfloat16", "bf16").removeprefix("void ")
    depth = 0
    for i, letter in enumerate(name):  # parameters go, template arguments stay
        depth += {"<": 1, ">": -1}.get(letter, 0)
        if letter == "(" and depth == 0:
            name = name[:i]
            break
    name = re.sub(r"\bunipool::(cuda::)?", "", name)
    if len(name) > 70:
        name = name[:67] + "..."
    return (f"{unit} {name}" if unit else name), unit


class Reader:
    """Takes the lines of a record one by one."""

    def __init__(self) -> None:
        self.names: dict[str, tuple[str, str, Optional[str]]] = {}  # by number: symbol, name, unit
        self.streams: dict[Stream, list[Operation]] = collections.defaultdict(list)
        self.ranges: list[Range] = []
        self.overheads: list[tuple[int, int, int]] = []
        self.dropped: Optional[int] = None

    def Take(self, line: str) -> None:
        """Raises ValueError, IndexError, KeyError where the line is no record."""
        kind, *fields = line.split("\t")
        if kind == "N":
            self.names[fields[0]] = (fields[1], *ShortName(fields[1], fields[2]))
        elif kind in ("K", "C", "S"):
            operation = self.Work(kind, fields)
            self.streams[operation.stream].append(operation)
        elif kind == "R":
            self.ranges.append(Range(int(fields[1]), int(fields[2]), fields[0], self.names[fields[3]][0]))
        elif kind == "V":
            self.overheads.append((int(fields[1]), int(fields[2]), int(fields[0])))
        elif kind == "E":
            self.dropped = int(fields[0])
        else:
            raise ValueError("there is no such kind of line")

    def Work(self, what: str, fields: list[str]) -> Operation:
        stream, start, end = (int(fields[0]), int(fields[1]), int(fields[2])), int(fields[3]), int(fields[4])
        if end < start:
            raise ValueError("it ends before it starts")
        if what == "K":
            _, name, unit = self.names[fields[5]]
            return Operation(start, end, stream, what, name, unit, None, 0)
        if what == "C":
            kind = int(fields[5])
            name = f"copy {COPY_KINDS.get(kind, f'of kind {kind}')}"
            return Operation(start, end, stream, what, name, None, kind, int(fields[6]))
        return Operation(start, end, stream, what, "set memory", None, None, int(fields[5]))


def Open(path: str) -> tuple[str, list[str]]:
    """(process, lines behind the first). Raises Broken."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            first = file.readline().rstrip("\n").split("\t")
            if first[0] != "unipool-timeline":
                what = "empty" if first == [""] else "no time line"
                raise Broken(f"{path} is {what}: it does not begin with \"unipool-timeline\"")
            if first[1:2] != ["1"]:
                raise Broken(f"{path}: its format is {first[1:2]}, this program reads format 1")
            return (first[2] if len(first) > 2 else "?"), file.read().split("\n")
    except OSError as error:
        raise Broken(f"{path}: {error.strerror}") from error


def Read(path: str) -> Record:
    """Raises Broken."""
    process, lines = Open(path)
    reader = Reader()
    # What follows the last end of a line was being written when the process was ended.
    for number, line in enumerate(lines[:-1], 2):
        try:
            reader.Take(line)
        except (ValueError, IndexError, KeyError) as error:
            raise Broken(f"{path}, line {number}: \"{line[:80]}\" is no record: {error}") from error
    if not reader.streams:
        raise Broken(f"{path}: no work of a device is in it")
    for operations in reader.streams.values():
        operations.sort(key=lambda o: (o.start, o.end))
    return Record(dict(reader.streams), sorted(reader.ranges), reader.overheads, reader.dropped or 0,
                  reader.dropped is not None, process)
