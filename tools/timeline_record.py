"""A recorded time line (format: bench/timeline_file.h) and what follows from it: steps, gaps, their causes."""
import bisect
import collections
import itertools
import re

COPY_KINDS = {1: "host to device", 2: "device to host", 8: "device to device", 10: "between devices"}
TO_HOST = 2
# CUpti_ActivityOverheadKind, above 16 bits
OVERHEADS = {1: "the recorder", 2: "the recorder", 3: "the recorder", 4: "loading kernels", 5: "loading kernels",
             7: "the recorder", 8: "the recorder"}
MOST_REPORT_BYTES = 64 << 10  # of row counts, on their way to the host
MOST_NUMBERS_BYTES = 64       # loss and gradient norm, likewise
WIRE_NS = 15_000              # work that waits for another stream begins within this of its end

COUNTS, STEP_END, WIRE, OTHER = "row counts", "end of step", "another stream", "other"
CAUSES = (COUNTS, STEP_END, WIRE, "the recorder", "loading kernels", OTHER)


class Broken(Exception):
    """The file is no record; the text says why."""


# stream: (device, context, stream); unit: of our kernels, the file kernels/UNIT_cuda.cu; kind: of a copy
Operation = collections.namedtuple("Operation", "start end stream what name unit kind bytes")
Range = collections.namedtuple("Range", "start end thread name")
Record = collections.namedtuple("Record", "streams ranges overheads dropped is_complete process")
# name: of the host's range, or the number in the list; begin, end: indexes of operations of the compute stream
Step = collections.namedtuple("Step", "name begin end start_ns end_ns")
Gap = collections.namedtuple("Gap", "start end before after cause host step")


def ShortName(symbol, text):
    """(name for people, unit or None) of a kernel."""
    unit = re.search(r"_GLOBAL__N__[0-9a-f]{8}_\d+_(\w+?)_cu_[0-9a-f]{8}", symbol)
    unit = unit[1].removesuffix("_cuda") if unit else None
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


def Read(path):
    """Raises Broken."""
    names, streams, ranges, overheads, dropped, process = {}, collections.defaultdict(list), [], [], None, "?"
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            first = file.readline().rstrip("\n").split("\t")
            if first[0] != "unipool-timeline":
                what = "empty" if first == [""] else "no time line"
                raise Broken(f"{path} is {what}: it does not begin with \"unipool-timeline\"")
            if first[1:2] != ["1"]:
                raise Broken(f"{path}: its format is {first[1:2]}, this program reads format 1")
            process = first[2] if len(first) > 2 else "?"
            lines = file.read().split("\n")
    except OSError as error:
        raise Broken(f"{path}: {error.strerror}") from error
    # What follows the last end of a line was being written when the process was ended.
    for number, line in enumerate(lines[:-1], 2):
        kind, *fields = line.split("\t")
        try:
            if kind == "N":
                names[fields[0]] = (fields[1], *ShortName(fields[1], fields[2]))
            elif kind in ("K", "C", "S"):
                stream, (start, end) = tuple(map(int, fields[:3])), map(int, fields[3:5])
                if end < start:
                    raise ValueError("it ends before it starts")
                if kind == "K":
                    _, name, unit = names[fields[5]]
                    operation = Operation(start, end, stream, kind, name, unit, None, 0)
                elif kind == "C":
                    what = COPY_KINDS.get(int(fields[5]), f"of kind {fields[5]}")
                    operation = Operation(start, end, stream, kind, f"copy {what}", None, int(fields[5]), int(fields[6]))
                else:
                    operation = Operation(start, end, stream, kind, "set memory", None, None, int(fields[5]))
                streams[stream].append(operation)
            elif kind == "R":
                ranges.append(Range(int(fields[1]), int(fields[2]), fields[0], names[fields[3]][0]))
            elif kind == "V":
                overheads.append((int(fields[1]), int(fields[2]), int(fields[0])))
            elif kind == "E":
                dropped = int(fields[0])
            else:
                raise ValueError("there is no such kind of line")
        except (ValueError, IndexError, KeyError) as error:
            raise Broken(f"{path}, line {number}: \"{line[:80]}\" is no record: {error}") from error
    if not streams:
        raise Broken(f"{path}: no work of a device is in it")
    for operations in streams.values():
        operations.sort(key=lambda o: (o.start, o.end))
    return Record(dict(streams), sorted(ranges), overheads, dropped or 0, dropped is not None, process)


def ComputeStream(record):
    """The stream with the most time in kernels."""
    return max(record.streams, key=lambda stream: sum(o.end - o.start for o in record.streams[stream] if o.what == "K"))


def Merged(operations, start, end):
    """Disjoint times [(begin, end)] within [start, end) in which any of them runs; they are in order of start."""
    merged = []
    for operation in operations:
        begin, stop = max(operation.start, start), min(operation.end, end)
        if stop <= begin:
            continue
        if merged and begin <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], stop)
        else:
            merged.append([begin, stop])
    return merged


def Length(times):
    return sum(end - begin for begin, end in times)


def Common(a, b):
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
    """Where the host was: the innermost of its ranges at a time. Only where one thread has ranges, as several can not be
    told apart on a device."""

    def __init__(self, ranges):
        self.times, self.names, self.steps = [], [], []
        if len({r.thread for r in ranges}) != 1:
            return
        open_ranges = []

        def note(time):
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

    def At(self, time):
        """Names of the open ranges, outermost first."""
        i = bisect.bisect_right(self.times, time) - 1
        return self.names[i] if i >= 0 else ()

    def Touches(self, start, end, suffix):
        """Was the host in an innermost range whose name ends so, at any time in between?"""
        first = max(0, bisect.bisect_right(self.times, start) - 1)
        return any(names and names[-1].endswith(suffix) for names in self.names[first:bisect.bisect_left(self.times, end)])


def Steps(operations, host):
    """Steps on the device: each ends with the last kernel of its optimizer (kernels/adamw_cuda.cu), behind which rows are
    routed again. Without such kernels they begin where the host says; without its ranges too all is one."""
    steps, begin, last = [], 0, None

    def add(end, name=None):
        steps.append(Step(name or str(len(steps) + 1), begin, end, None, None))

    for i, operation in enumerate(operations):
        if operation.unit == "adamw":
            last = i
        elif operation.unit == "row_order" and last is not None:
            add(last + 1)
            begin, last = last + 1, None
    if last is not None:
        add(last + 1)
    if steps and host.steps:
        for i, step in enumerate(steps):  # rows are routed after the host began the step, and before it begins the next
            routed = next((o for o in operations[step.begin:step.end] if o.unit == "row_order"), operations[step.begin])
            begun = [r.name for r in host.steps if r.start <= routed.start]
            steps[i] = step._replace(name=begun[-1].removeprefix("step ") if begun else step.name)
    elif steps:
        pass
    elif host.steps:
        starts = [bisect.bisect_left(operations, (r.start,)) for r in host.steps] + [len(operations)]
        steps = [Step(r.name.removeprefix("step "), a, b, None, None) for r, a, b in zip(host.steps, starts, starts[1:]) if a < b]
    else:
        add(len(operations), "all")
    busy_until = list(itertools.accumulate((o.end for o in operations), max))
    # A step lasts from the end of all before it.
    return [step._replace(start_ns=busy_until[step.begin - 1] if step.begin else operations[0].start,
                          end_ns=busy_until[step.end - 1]) for step in steps]


def Gaps(record, stream, step, host, limit_ns):
    """Gaps of a step on the compute stream above the limit, first to last."""
    operations, gaps = record.streams[stream], []
    others = sorted(o.end for key, list_ in record.streams.items() if key != stream and key[0] == stream[0] for o in list_)
    busy_until = step.start_ns
    counts_under_way, last_kernel, numbers_sent = False, None, False
    for i in range(step.begin, step.end):
        after = operations[i]
        if after.start - busy_until > limit_ns and i > 0:
            gap = Gap(busy_until, after.start, operations[i - 1], after, None, "", step)
            open_ranges = host.At((gap.start + gap.end) // 2)
            in_step = any(name.startswith("step ") for name in open_ranges)
            cause = OTHER
            if Overhead(record, gap):
                cause = Overhead(record, gap)
            elif (counts_under_way and after.unit != "grouped_weight_grad"
                  and (not host.steps or host.Touches(gap.start, gap.end, "row counts and dispatch"))):
                cause = COUNTS
            elif i == step.begin or numbers_sent or after.unit == "adamw" or (host.steps and not in_step):
                cause = STEP_END
            elif others and WaitsForAnother(others, gap):
                cause = WIRE
            gaps.append(gap._replace(cause=cause, host=HostText(open_ranges)))
        busy_until = max(busy_until, after.end)
        # The copy behind the kernels that order rows carries their counts to the host (models/layer_saved.h). It waits for
        # them with nothing but weight gradients enqueued, until it can say where the rows go (kernels/permute_cuda.cu).
        if after.what == "C" and after.kind == TO_HOST and last_kernel == "row_order" and after.bytes <= MOST_REPORT_BYTES:
            counts_under_way = True
        elif counts_under_way and after.unit != "grouped_weight_grad" and after.what == "K":
            counts_under_way = False
        elif after.what == "C" and after.kind == TO_HOST and after.bytes <= MOST_NUMBERS_BYTES:
            numbers_sent = True
        if after.what == "K":
            last_kernel = after.unit
    return gaps


def Overhead(record, gap):
    """What CUPTI or CUDA did in at least half of the gap, or None."""
    for start, end, kind in record.overheads:
        if 2 * (min(end, gap.end) - max(start, gap.start)) >= gap.end - gap.start:
            return OVERHEADS.get(kind >> 16)
    return None


def WaitsForAnother(ends, gap):
    """Did work of another stream end in the gap, just before its end? `ends` in order."""
    i = bisect.bisect_right(ends, gap.end) - 1
    return i >= 0 and ends[i] > max(gap.start, gap.end - WIRE_NS)


def HostText(open_ranges):
    """The innermost range without the numbers that tell one of a kind from the next."""
    if not open_ranges:
        return "between steps"
    return re.sub(r" lane, microbatch .*?:", ":", re.sub(r"\d+", "N", open_ranges[-1])) if open_ranges[-1] else ""
