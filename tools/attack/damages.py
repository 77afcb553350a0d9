"""What can happen to a run's checkpoints on a disk: each damage as a function, and the list of cases made of them.

A case is applied to a copy of a run that has checkpoints step-6 and step-9 of 12 steps. Choices are made by a generator that
the case's name seeds, so that a name repeats its case.
"""
from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
from collections.abc import Callable

NEWEST, OLDER = 9, 6
SECTOR_BYTES = 512

Edit = Callable[[bytearray, random.Random], bytes | bytearray]


@dataclasses.dataclass
class Site:
    """A run's folder and the generator of the case."""
    run: str
    choose: random.Random

    def Path(self, name: str, step: int = NEWEST) -> str:
        return os.path.join(self.run, "checkpoints", f"step-{step}", name)

    def Step(self, step: int = NEWEST) -> str:
        return os.path.join(self.run, "checkpoints", f"step-{step}")


@dataclasses.dataclass
class Case:
    name: str
    apply: Callable[[Site], None]
    as_other_user: bool = False   # the run is continued by a user whom permissions bind
    harmless: bool = False        # must be accepted


def Rewrite(path: str, edit: Edit, choose: random.Random) -> None:
    with open(path, "rb") as file:
        old = bytearray(file.read())
    new = edit(bytearray(old), choose)
    assert new != old or not old, f"{path}: the damage changed nothing"
    with open(path, "wb") as file:
        file.write(new)


def HeaderEnd(data: bytes | bytearray) -> int:
    """Where a safetensors file's numbers begin."""
    return min(8 + int.from_bytes(data[:8], "little"), len(data))


def FlipIn(first_share: float, last_share: float, header: bool = False) -> Edit:
    """One flipped bit, in this part of the file (of a safetensors file: of its header, or of its numbers)."""
    def edit(data: bytearray, choose: random.Random) -> bytearray:
        tensors = len(data) > 4096 and data[8:9] == b"{"
        begin, end = ((0, HeaderEnd(data)) if header else (HeaderEnd(data), len(data))) if tensors else (0, len(data))
        place = begin + int((first_share + (last_share - first_share) * choose.random()) * (end - begin - 1))
        data[place] ^= 1 << choose.randrange(8)
        return data
    return edit


def Zero(data: bytearray, choose: random.Random) -> bytearray:
    """A lost sector."""
    begin = choose.randrange(max(1, len(data) // SECTOR_BYTES)) * SECTOR_BYTES
    count = len(data[begin:begin + SECTOR_BYTES])
    data[begin:begin + SECTOR_BYTES] = bytes(count)
    return data if any(data) or not count else data[:-1] + b"\1"


EDITS: dict[str, Edit] = {
    "flip-early": FlipIn(0, 0.1),
    "flip-middle": FlipIn(0.3, 0.7),
    "flip-late": FlipIn(0.9, 1),
    "flip-header": FlipIn(0, 1, header=True),
    "flip-length": lambda data, choose: bytes([data[0] ^ 1 << choose.randrange(8)]) + data[1:],
    "zero": Zero,
    "zero-all": lambda data, _: bytes(len(data)),
    "truncate": lambda data, choose: data[:choose.randrange(1, len(data))],
    "cut-byte": lambda data, _: data[:-1],
    "empty": lambda data, _: b"",
    "garbage": lambda data, choose: choose.randbytes(len(data)),
    "append": lambda data, choose: data + choose.randbytes(choose.choice([1, 8, 4096])),
}
ONLY_TENSORS = {"flip-early", "flip-late", "flip-header"}
# Files that do not tell the step: another step's are the same byte for byte.
SAME_IN_ALL = {"config.json", "tokenizer.json", "config.txtpb", "model.safetensors.index.json"}


def Link(path: str) -> None:
    os.remove(path)
    os.symlink("/nowhere/at/all", path)


def Folder(path: str) -> None:
    os.remove(path)
    os.mkdir(path)


def Fifo(path: str) -> None:
    os.remove(path)
    os.mkfifo(path)


PLACES: dict[str, Callable[[str], None]] = {"delete": os.remove, "folder": Folder, "link": Link, "fifo": Fifo}

STATES: dict[str, str] = {
    "object": "{}", "list": "[]", "null": "null", "number": "7", "no-json": "step 9", "deep": "[" * 100000,
    "empty-inner": '{"optimizer_files":4,"step":9,"training_state":{}}',
    "inner-text": '{"optimizer_files":4,"step":9,"training_state":{"step":"9"}}',
    "inner-negative": '{"optimizer_files":4,"step":-3,"training_state":{"step":-3}}',
    "inner-null": '{"optimizer_files":4,"step":9,"training_state":{"step":null}}',
    "inner-list": '{"optimizer_files":4,"step":9,"training_state":[9]}',
    "inner-older": '{"optimizer_files":4,"step":9,"training_state":{"step":6}}',
    "outer-text": '{"optimizer_files":4,"step":"9","training_state":{"step":9}}',
    "outer-older": '{"optimizer_files":4,"step":6,"training_state":{"step":6}}',
    "later": '{"optimizer_files":4,"step":900,"training_state":{"step":900}}',
    "largest": '{"optimizer_files":4,"step":9223372036854775807,"training_state":{"step":9223372036854775807}}',
    "beyond": '{"optimizer_files":4,"step":9223372036854775808,"training_state":{"step":9223372036854775808}}',
    "fraction": '{"optimizer_files":4,"step":9.5,"training_state":{"step":9.5}}',
    "files-wrap": '{"optimizer_files":4294967300,"step":9,"training_state":{"step":9}}',
    "files-negative": '{"optimizer_files":-1,"step":9,"training_state":{"step":9}}',
    "files-more": '{"optimizer_files":5,"step":9,"training_state":{"step":9}}',
    "files-text": '{"optimizer_files":"4","step":9,"training_state":{"step":9}}',
}
# Hand-edited numbers inside of what the program wrote itself.
FIELDS = {"step": [8, 10, -9, "9", None], "optimizer_files": [3, 0]}


def SetState(text: str) -> Callable[[Site], None]:
    def apply(site: Site) -> None:
        with open(site.Path("training_state.json"), "w", encoding="utf-8") as file:
            file.write(text)
    return apply


def SetField(name: str, value: object, inner: bool) -> Callable[[Site], None]:
    def apply(site: Site) -> None:
        with open(site.Path("training_state.json"), encoding="utf-8") as file:
            state = json.load(file)
        (state["training_state"] if inner else state)[name] = value
        SetState(json.dumps(state))(site)
    return apply


def NextOfKind(name: str, names: list[str]) -> str:
    """Another file of the same kind: the next shard, or another small file."""
    kind = [other for other in names if other.split("-")[0] == name.split("-")[0]] if "-" in name else \
        [other for other in names if "-" not in other]
    return kind[(kind.index(name) + 1) % len(kind)]


def Swap(name: str, other: str) -> Callable[[Site], None]:
    def apply(site: Site) -> None:
        first, second = site.Path(name), site.Path(other)
        os.rename(first, first + ".swap")
        os.rename(second, first)
        os.rename(first + ".swap", second)
    return apply


def FileCases(name: str, names: list[str]) -> list[Case]:
    cases = []
    for damage, edit in EDITS.items():
        if damage not in ONLY_TENSORS or name.endswith(".safetensors"):
            cases.append(Case(f"{damage} {name}", lambda site, edit=edit: Rewrite(site.Path(name), edit, site.choose)))
    for damage, place in PLACES.items():
        cases.append(Case(f"{damage} {name}", lambda site, place=place: place(site.Path(name))))
    cases.append(Case(f"older {name}", lambda site: void(shutil.copy(site.Path(name, OLDER), site.Path(name))),
                      harmless=name in SAME_IN_ALL))
    cases.append(Case(f"swap {name}", Swap(name, NextOfKind(name, names))))
    cases.append(Case(f"permissions {name}", lambda site: os.chmod(site.Path(name), 0), as_other_user=True))
    return cases


def void(_: object) -> None:
    """A call's result that nobody wants."""


def Older(prefix: str) -> Callable[[Site], None]:
    def apply(site: Site) -> None:
        for name in os.listdir(site.Step(OLDER)):
            if name.startswith(prefix):
                shutil.copy(site.Path(name, OLDER), site.Path(name))
    return apply


def InBoth(edit: Edit, kind: str) -> Callable[[Site], None]:
    """The same damage in one file of every checkpoint: none is left to use."""
    def apply(site: Site) -> None:
        for step in (OLDER, NEWEST):
            name = site.choose.choice(sorted(name for name in os.listdir(site.Step(step)) if name.startswith(kind)))
            Rewrite(site.Path(name, step), edit, site.choose)
    return apply


def Replace(make: Callable[[str], object]) -> Callable[[Site], None]:
    """Something else in the place of step-9."""
    def apply(site: Site) -> None:
        os.rename(site.Step(), os.path.join(site.run, "moved-away"))
        make(site.Step())
    return apply


def Append(name: str, data: bytes) -> Callable[[Site], None]:
    def apply(site: Site) -> None:
        with open(os.path.join(site.run, name), "ab") as file:
            file.write(data)
    return apply


def FolderCases() -> list[Case]:
    def export(site: Site) -> None:
        for step in (OLDER, NEWEST):
            name = next(name for name in sorted(os.listdir(site.Step(step))) if name.startswith("model-"))
            shutil.copy(site.Path(name, step), site.Path("export.safetensors", step))
    return [
        Case("extra-file step-9", export, harmless=True),
        Case("notes step-9", lambda site: Append("checkpoints/step-9/notes.txt", b"mine")(site), harmless=True),
        Case("partial checkpoints", lambda site: os.mkdir(site.Step() + ".partial"), harmless=True),
        Case("moved-link step-9", Replace(lambda path: os.symlink("../moved-away", path)), harmless=True),
        Case("empty-folder step-9", Replace(os.mkdir)),
        Case("file step-9", Replace(lambda path: open(path, "wb").close())),
        Case("dangling step-9", Replace(lambda path: os.symlink("/nowhere/at/all", path))),
        Case("fifo step-9", Replace(os.mkfifo)),
        Case("copy-of-older step-9", Replace(lambda path: shutil.copytree(path.replace("step-9", "step-6"), path))),
        Case("renamed step-9", lambda site: os.rename(site.Step(), site.Step(11))),
        Case("renamed-far step-9", lambda site: os.rename(site.Step(), site.Step(99999999999999999999))),
        Case("older-weights step-9", Older("model")),
        Case("older-moments step-9", Older("optimizer")),
        Case("permissions step-9", lambda site: os.chmod(site.Step(), 0), as_other_user=True),
        Case("permissions checkpoints", lambda site: os.chmod(os.path.dirname(site.Step()), 0o311), as_other_user=True),
        Case("closed checkpoints", lambda site: os.chmod(os.path.dirname(site.Step()), 0), as_other_user=True),
        Case("torn-line metrics.jsonl", Append("metrics.jsonl", b'{"step":10,"to'), harmless=True),
        Case("folder metrics.jsonl", lambda site: Folder(os.path.join(site.run, "metrics.jsonl"))),
        Case("fifo metrics.jsonl", lambda site: Fifo(os.path.join(site.run, "metrics.jsonl"))),
        Case("folder lock", lambda site: Folder(os.path.join(site.run, "lock"))),
        Case("fifo lock", lambda site: Fifo(os.path.join(site.run, "lock"))),
        *(Case(f"both-{damage} {kind}", InBoth(EDITS[damage], kind))
          for damage in ("flip-middle", "truncate", "empty", "garbage") for kind in ("model-", "optimizer-", "training_state")),
    ]


def AllCases(names: list[str]) -> list[Case]:
    """names: the files of the checkpoint."""
    cases = [case for name in names for case in FileCases(name, names)] + FolderCases()
    cases += [Case(f"state-{name} training_state.json", SetState(text)) for name, text in STATES.items()]
    cases += [Case(f"field-{field}-{value}-{'inner' if inner else 'outer'} training_state.json", SetField(field, value, inner))
              for field, values in FIELDS.items() for value in values for inner in (False, True)
              if not (inner and field == "optimizer_files")]
    return cases
