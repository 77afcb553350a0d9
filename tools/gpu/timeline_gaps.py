"""What follows from a recorded time line: steps, gaps on the compute stream, and what each gap waited for."""
from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Iterable
from typing import NamedTuple, Optional

from timeline_record import Operation, Range, Record, Stream

TO_HOST = 2  # kind of a copy
# CUpti_ActivityOverheadKind, above 16 bits
OVERHEADS = {1: "the recorder", 2: "the recorder", 3: "the recorder", 4: "loading kernels", 5: "loading kernels",
             7: "the recorder", 8: "the recorder"}
MOST_REPORT_BYTES = 64 << 10  # of row counts, on their way to the host
MOST_NUMBERS_BYTES = 64       # loss and gradient norm, likewise
WIRE_NS = 15_000              # work that waits for another stream begins within this of its end

COUNTS, STEP_END, WIRE, OTHER = "row counts", "end of step", "another stream", "other"
CAUSES = (COUNTS, STEP_END, WIRE, "the recorder", "loading kernels", OTHER)

Times = list[tuple[int, int]]  # begins and ends, in ns


class Step(NamedTuple):
    name: str  # of the host's range, or the number in the list
    begin: int  # indexes of operations of the compute stream
    end: int
    start_ns: int
    end_ns: int


class Gap(NamedTuple):
    start: int
    end: int
    before: Operation
    after: Operation
    cause: str
    host: str
    step: Step


def ComputeStream(record: Record) -> Stream:
    """The stream with the most time in kernels."""
    return max(record.streams, key=lambda stream: sum(o.end - o.start for o in record.streams[stream] if o.what == "K"))


def Merged(operations: Iterable[Operation], start: int, end: int) -> Times:
    """Disjoint times within [start, end) in which any of the operations runs. They are in order of start."""
    merged: Times = []
    for operation in operations:
        begin, stop = max(operation.start, start), min(operation.end, end)
        if stop <= begin:
            continue
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((begin, stop))
    return merged


def Length(times: Times) -> int:
    return sum(end - begin for begin, end in times)


def Common(a: Times, b: Times) -> int:
    """Time that lies in both of two lists of disjoint times."""
    total, i, j = 0, 0, 0
    while i < len(a) and j < len(b):
        total += max(0, min(a[i][1], b[j][1]) - max(a[i][0], b[j][0]))
        if a[i][1] < b[j][1]:
            i += 1
        else:
            j += 1
    return total


class Host:
    """Where the host was: the innermost of its ranges at a time.

    Known only where one thread has ranges, because a device does not tell the ranges of several threads apart.
    """

    def __init__(self, ranges: list[Range]) -> None:
        self.times: list[int] = []
        self.names: list[tuple[str, ...]] = []  # open from the time of the same index on, outermost first
        self.steps: list[Range] = []
        if len({r.thread for r in ranges}) != 1:
            return
        open_ranges: list[Range] = []

        def note(time: int) -> None:
            self.times.append(time)
            self.names.append(tuple(r.name for r in open_ranges))

        for r in sorted(ranges, key=lambda r: (r.start, -r.end)):
            while open_ranges and open_ranges[-1].end <= r.start:
                end = open_ranges.pop().end
                note(end)
            open_ranges.append(r)
            note(r.start)
            if re.fullmatch(r"step \d+", r.name):
                self.steps.append(r)
        while open_ranges:
            end = open_ranges.pop().end
            note(end)

    def At(self, time: int) -> tuple[str, ...]:
        """Names of the open ranges, outermost first."""
        i = bisect.bisect_right(self.times, time) - 1
        return self.names[i] if i >= 0 else ()

    def Spent(self, start: int, end: int) -> dict[str, list[int]]:
        """By kind of range: for each of its ranges that begin within [start, end), the time in it and in none within it."""
        spent: dict[str, list[int]] = {}
        last = bisect.bisect_left(self.times, end)
        for i in range(bisect.bisect_left(self.times, start), last):
            was_open = self.names[i - 1] if i else ()
            time = (self.times[i + 1] if i + 1 < len(self.times) else self.times[i]) - self.times[i]
            times = spent.setdefault(HostText(self.names[i]), [])
            if len(self.names[i]) > len(was_open) or not times:
                times.append(0)
            times[-1] += time
        return spent

    def Touches(self, start: int, end: int, suffix: str) -> bool:
        """Was the host in an innermost range whose name ends so, at any time in between?"""
        first = max(0, bisect.bisect_right(self.times, start) - 1)
        return any(names and names[-1].endswith(suffix) for names in self.names[first:bisect.bisect_left(self.times, end)])


def Cuts(operations: list[Operation]) -> list[int]:
    """Where steps end: behind the last kernel of each optimizer (kernels/adamw_cuda.cu), before rows are routed again."""
    cuts, last = list[int](), 0
    for i, operation in enumerate(operations):
        if operation.unit == "adamw":
            last = i + 1
        elif operation.unit == "row_order" and last:
            cuts.append(last)
            last = 0
    return [*cuts, last] if last else cuts


def NameOf(operations: list[Operation], host: Host) -> Optional[str]:
    """The host's name of a step: rows are routed after the host began the step, and before it begins the next."""
    routed = next((o for o in operations if o.unit == "row_order"), operations[0])
    begun = [r.name for r in host.steps if r.start <= routed.start]
    return begun[-1].removeprefix("step ") if begun else None


def Steps(operations: list[Operation], host: Host) -> list[Step]:
    """Steps on the device: each ends with the last kernel of its optimizer. Without such kernels steps begin where the host
    says so. Without the host's ranges too all is one step. A step lasts from the end of all before it."""
    cuts = Cuts(operations)
    if cuts:
        parts = [(NameOf(operations[a:b], host) or str(number), a, b)
                 for number, (a, b) in enumerate(zip([0, *cuts], cuts), 1)]
    elif host.steps:
        starts = [bisect.bisect_left([o.start for o in operations], r.start) for r in host.steps] + [len(operations)]
        parts = [(r.name.removeprefix("step "), a, b) for r, a, b in zip(host.steps, starts, starts[1:]) if a < b]
    else:
        parts = [("all", 0, len(operations))]
    busy_until = list(itertools.accumulate((o.end for o in operations), max))
    return [Step(name, begin, end, busy_until[begin - 1] if begin else operations[0].start, busy_until[end - 1])
            for name, begin, end in parts]


class Causes:
    """Follows the operations of a step in order and says what a gap before the next one waited for."""

    def __init__(self, record: Record, stream: Stream, host: Host) -> None:
        self.record, self.host = record, host
        self.other_ends = sorted(o.end for key, operations in record.streams.items()
                                 if key != stream and key[0] == stream[0] for o in operations)
        self.counts_under_way = self.numbers_sent = False
        self.last_kernel: Optional[str] = None

    def Of(self, gap: Gap, is_first: bool) -> str:
        overhead = Overhead(self.record, gap)
        if overhead:
            return overhead
        after, has_steps = gap.after, bool(self.host.steps)
        if self.counts_under_way and after.unit != "grouped_weight_grad" and (
                not has_steps or self.host.Touches(gap.start, gap.end, "row counts and dispatch")):
            return COUNTS
        in_step = any(name.startswith("step ") for name in self.host.At(Middle(gap)))
        if is_first or self.numbers_sent or after.unit == "adamw" or (has_steps and not in_step):
            return STEP_END
        return WIRE if WaitsForAnother(self.other_ends, gap) else OTHER

    def Pass(self, operation: Operation) -> None:
        """The copy behind the kernels that order rows carries their counts to the host (models/layer_saved.h). The host waits
        for it, with nothing but weight gradients enqueued, until it can say where the rows go (kernels/permute_cuda.cu)."""
        is_to_host = operation.what == "C" and operation.kind == TO_HOST
        if is_to_host and self.last_kernel == "row_order" and operation.bytes <= MOST_REPORT_BYTES:
            self.counts_under_way = True
        elif self.counts_under_way and operation.unit != "grouped_weight_grad" and operation.what == "K":
            self.counts_under_way = False
        elif is_to_host and operation.bytes <= MOST_NUMBERS_BYTES:
            self.numbers_sent = True
        if operation.what == "K":
            self.last_kernel = operation.unit


def Gaps(record: Record, stream: Stream, step: Step, host: Host, limit_ns: float) -> list[Gap]:
    """Gaps of a step on the compute stream above the limit, first to last."""
    operations, gaps = record.streams[stream], list[Gap]()
    causes, busy_until = Causes(record, stream, host), step.start_ns
    for i in range(step.begin, step.end):
        after = operations[i]
        if after.start - busy_until > limit_ns and i > 0:
            gap = Gap(busy_until, after.start, operations[i - 1], after, OTHER, "", step)
            gaps.append(gap._replace(cause=causes.Of(gap, i == step.begin), host=HostText(host.At(Middle(gap)))))
        busy_until = max(busy_until, after.end)
        causes.Pass(after)
    return gaps


def Middle(gap: Gap) -> int:
    return (gap.start + gap.end) // 2


def Overhead(record: Record, gap: Gap) -> Optional[str]:
    """What CUPTI or CUDA did in at least half of the gap, or None."""
    for start, end, kind in record.overheads:
        if 2 * (min(end, gap.end) - max(start, gap.start)) >= gap.end - gap.start:
            return OVERHEADS.get(kind >> 16)
    return None


def WaitsForAnother(ends: list[int], gap: Gap) -> bool:
    """Did work of another stream end in the gap, just before its end? `ends` in order."""
    i = bisect.bisect_right(ends, gap.end) - 1
    return i >= 0 and ends[i] > max(gap.start, gap.end - WIRE_NS)


def HostText(open_ranges: tuple[str, ...]) -> str:
    """The innermost range without the numbers that tell one of a kind from the next."""
    if not open_ranges:
        return "between steps"
    return re.sub(r" lane, microbatch .*?:", ":", re.sub(r"\d+", "N", open_ranges[-1])) if open_ranges[-1] else ""
