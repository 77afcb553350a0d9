#!/usr/bin/env python3
"""What a GPU did in training, step by step, from a record that timeline_injection.cc made: how busy each stream was, where
the compute stream waited and why, what took the time. Markdown on standard output. Needs Python's own library alone.

To make a record: CUDA_INJECTION64_PATH=LIB NVTX_INJECTION64_PATH=LIB UNIPOOL_TIMELINE=record.%p PROGRAM ...
with LIB=libunipool_timeline.so. Exit status: 0, or 2 and a sentence.
"""
from __future__ import annotations

import argparse
import collections
import gzip
import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from timeline_gaps import (CAUSES, COUNTS, Common, ComputeStream, Gap, Gaps, Host, Length, Merged, Step,  # noqa: E402
                           Steps, Times)
from timeline_record import Broken, Read, Stream  # noqa: E402
from training_judgement import Table  # noqa: E402

MOST_ROWS = 15


def Milliseconds(ns: float) -> str:
    return f"{ns / 1e6:.3f} ms"


def Percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


class Timeline:
    """Of a record: the steps that are asked for, and their gaps above limit_us on the compute stream. Raises Broken."""

    def __init__(self, path: str, limit_us: float = 20.0, skip: int = 0, steps: int = 0) -> None:
        self.record, self.limit_us = Read(path), limit_us
        self.compute = ComputeStream(self.record)
        self.operations = self.record.streams[self.compute]
        self.host = Host(self.record.ranges)
        found = Steps(self.operations, self.host)
        self.num_found, self.steps = len(found), found[skip:][:steps or None]
        if not self.steps:
            raise Broken(f"{path}: of {len(found)} steps none is left after the first {skip}")
        self.gaps = [gap for step in self.steps for gap in Gaps(self.record, self.compute, step, self.host, limit_us * 1000)]
        # Streams of the same device that have work in these steps, the compute stream first.
        begin, end = self.steps[0].start_ns, self.steps[-1].end_ns
        self.streams = sorted((stream for stream, work in self.record.streams.items()
                               if stream[0] == self.compute[0] and Merged(work, begin, end)),
                              key=lambda stream: (stream != self.compute, stream))

    @property
    def unexplained(self) -> list[Gap]:
        """Gaps that waiting for row counts does not explain."""
        return [gap for gap in self.gaps if gap.cause != COUNTS]

    def Name(self, stream: Stream) -> str:
        same_context = len({key[1] for key in self.record.streams}) == 1
        name = f"stream {stream[2]}" if same_context else f"stream {stream[2]} of context {stream[1]}"
        return f"{name} (compute)" if stream == self.compute else name

    def Busy(self, stream: Stream, step: Step) -> Times:
        return Merged(self.record.streams[stream], step.start_ns, step.end_ns)

    def StepTable(self) -> str:
        rows = []
        for step in self.steps:
            length = step.end_ns - step.start_ns
            gaps = [gap for gap in self.gaps if gap.step == step]
            compute = self.Busy(self.compute, step)
            row = [step.name, Milliseconds(length), Percent(Length(compute), length)]
            for stream in self.streams[1:]:
                busy = self.Busy(stream, step)
                row.append(f"{Percent(Length(busy), length)}, {Percent(Common(busy, compute), Length(busy))}")
            idle, in_gaps = length - Length(compute), sum(gap.end - gap.start for gap in gaps)
            rows.append([*row, f"{len(gaps)}: {Milliseconds(in_gaps)}", Milliseconds(idle - in_gaps)])
        others = [f"{self.Name(stream)} busy, of that beside compute" for stream in self.streams[1:]]
        return Table(["step", "length", "compute busy", *others, f"gaps above {self.limit_us:g} us", "shorter gaps"], rows)

    def Span(self) -> int:
        return sum(step.end_ns - step.start_ns for step in self.steps)

    def CauseTable(self) -> str:
        rows = []
        for cause in CAUSES:
            lengths = [gap.end - gap.start for gap in self.gaps if gap.cause == cause]
            if lengths:
                rows.append([cause, len(lengths), Milliseconds(sum(lengths)), Percent(sum(lengths), self.Span()),
                             f"{max(lengths) / 1000:.1f} us"])
        return Table(["gap waits for", "number", "sum", "of the time", "longest"], rows)

    def GapTable(self) -> str:
        kinds: dict[tuple[str, str, str, str], list[int]] = collections.defaultdict(list)
        for gap in self.gaps:
            kinds[(gap.before.name, gap.after.name, gap.cause, gap.host)].append(gap.end - gap.start)
        longest_first = sorted(kinds.items(), key=lambda item: -sum(item[1]))
        rows = [[f"`{before}`", f"`{after}`", cause, host, len(lengths), Milliseconds(sum(lengths)),
                 f"{max(lengths) / 1000:.1f} us"] for (before, after, cause, host), lengths in longest_first]
        text = Table(["before", "after", "gap waits for", "host was in", "number", "sum", "longest"], rows[:MOST_ROWS])
        return text + (f"\n\n{len(rows) - MOST_ROWS} kinds of gaps with less are left out." if len(rows) > MOST_ROWS else "")

    def OperationTable(self) -> str:
        times: dict[tuple[str, str], list[int]] = collections.defaultdict(list)
        for stream in self.streams:
            for step in self.steps:
                for o in self.record.streams[stream]:
                    if step.start_ns <= o.start < step.end_ns:
                        times[(o.name, self.Name(stream))].append(o.end - o.start)
        total = sum(Length(self.Busy(self.compute, step)) for step in self.steps)
        rows = []
        for (name, stream_name), lengths in sorted(times.items(), key=lambda item: -sum(item[1]))[:MOST_ROWS]:
            count, time = len(lengths) / len(self.steps), sum(lengths)
            rows.append([f"`{name}`", stream_name, f"{count:g}" if count == int(count) else f"{count:.1f}",
                         Milliseconds(time / len(self.steps)), Percent(time, total), f"{time / len(lengths) / 1000:.1f} us"])
        return Table(["operation", "stream", "a step", "time a step", "of compute busy", "mean"], rows)

    def HostTable(self) -> str:
        """Where the host's time went, whether or not the device waited for it. Empty where its ranges are not known."""
        names = {f"step {step.name}" for step in self.steps}
        steps = [r for r in self.host.steps if r.name in names]
        spent: dict[str, list[int]] = collections.defaultdict(list)
        for step in steps:
            for kind, times in self.host.Spent(step.start, step.end).items():
                spent[kind] += times
        total = sum(step.end - step.start for step in steps)
        rows = [[kind, f"{len(times) / len(steps):.4g}", Milliseconds(sum(times) / len(steps)), Percent(sum(times), total),
                 f"{sum(times) / len(times) / 1000:.1f} us", f"{max(times) / 1000:.1f} us"]
                for kind, times in sorted(spent.items(), key=lambda item: -sum(item[1]))[:MOST_ROWS]]
        return Table(["host was in", "a step", "host's time a step", "of its steps", "mean", "longest"], rows) if rows else ""

    def Aim(self) -> str:
        left = self.unexplained
        aim = f"Aim: no gap above {self.limit_us:g} us on the compute stream outside the count exchange: "
        if not left:
            return aim + ("reached." if not self.record.dropped else "not known, as records were lost.")
        time = sum(gap.end - gap.start for gap in left)
        return (f"{aim}MISSED, {len(left)} in {len(self.steps)} steps, {Milliseconds(time)}, "
                f"{Percent(time, self.Span())} of the time.")

    def Text(self) -> str:
        names = [step.name for step in self.steps]
        shown = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
        text = [f"Steps {shown}, {len(names)} of {self.num_found} in the record; {len(self.operations)} operations on "
                f"{self.Name(self.compute)} of device {self.compute[0]}. A gap lies between the end of all before it and the start "
                "of the next operation."]
        if self.record.dropped:
            text.append(f"{self.record.dropped} records were lost: gaps may be work that is not here.")
        if not self.record.is_complete:
            text.append("The record is cut off: the program was ended before it wrote the last of it.")
        if not self.host.steps:
            text.append("The host's ranges are not in it, or are of several threads: steps are counted from 1, causes are told by "
                        "the order of operations alone.")
        text += [self.StepTable(), self.Aim()]
        if self.gaps:
            text += [self.CauseTable(), self.GapTable()]
        return "\n\n".join([*text, self.OperationTable(), *filter(None, [self.HostTable()])])

    def WriteTrace(self, path: str, num_steps: int = 2) -> None:
        """The last num_steps steps: streams of the device, gaps with their cause, ranges of the host."""
        steps = self.steps[-num_steps:]
        begin, end = steps[0].start_ns, steps[-1].end_ns
        events: list[dict[str, object]] = [{"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": name}}
                  for pid, name in ((1, f"device {self.compute[0]}"), (2, f"host, process {self.record.process}"))]

        def add(pid: int, row: int, name: str, start: int, stop: int, **arguments: object) -> None:
            events.append({"ph": "X", "name": name, "pid": pid, "tid": row, "ts": (start - begin) / 1000,
                           "dur": (stop - start) / 1000, "args": arguments})

        def row(pid: int, number: int, name: str) -> None:
            events.append({"ph": "M", "name": "thread_name", "pid": pid, "tid": number, "args": {"name": name}})

        row(1, 0, "steps")
        row(1, 1, f"gaps above {self.limit_us:g} us")
        for step in steps:
            add(1, 0, f"step {step.name}", step.start_ns, step.end_ns)
        for gap in self.gaps:
            if gap.start >= begin:
                add(1, 1, gap.cause, gap.start, gap.end, before=gap.before.name, after=gap.after.name, host=gap.host)
        for number, stream in enumerate(self.streams, 2):
            row(1, number, self.Name(stream))
            for o in self.record.streams[stream]:
                if begin <= o.start < end:
                    add(1, number, o.name, o.start, o.end, **({"bytes": o.bytes} if o.what != "K" else {}))
        threads = sorted({r.thread for r in self.record.ranges})
        for number, thread in enumerate(threads):
            row(2, number, f"thread {thread}")
            for r in self.record.ranges:
                if r.thread == thread and r.end > begin and r.start < end:
                    add(2, number, r.name, r.start, r.end)
        text = json.dumps({"displayTimeUnit": "ns", "traceEvents": events}).encode()
        with open(path, "wb") as file:
            file.write(gzip.compress(text) if path.endswith(".gz") else text)


def Flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    parser.add_argument("record", metavar="RECORD")
    parser.add_argument("--limit", type=float, default=20, metavar="US",
                        help="gaps on the compute stream above this are named (20)")
    parser.add_argument("--skip", type=int, default=0, metavar="N", help="the first N steps are left out (0)")
    parser.add_argument("--steps", type=int, default=0, metavar="N", help="at most N steps after them (all)")
    parser.add_argument("--trace", default="", metavar="FILE",
                        help="also a trace for ui.perfetto.dev or chrome://tracing, packed if the name ends in .gz")
    parser.add_argument("--trace-steps", type=int, default=2, metavar="N", help="with the last N of these steps (2)")
    return parser.parse_args()


def main() -> int:
    flags = Flags()
    try:
        timeline = Timeline(flags.record, flags.limit, flags.skip, flags.steps)
        print(timeline.Text())
        if flags.trace:
            timeline.WriteTrace(flags.trace, flags.trace_steps)
    except (Broken, OSError) as problem:
        print(f"gpu_timeline.py: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
