"""Units of the floors: how many data members a class has, and which test holds a unit."""
import os
import re

from structure.tree import CPP, FLOORS, Files, Lines

MOST_MEMBERS = 16
# "path: class": why it has more. A struct without functions is a record of parameters, options or results, and may have any
# number; but not where it is what a kernel is given, since each of its members takes a register or is loaded again.
MANY_MEMBERS: dict[str, str] = {
    "models/model_spec.h: ModelSpec": "what a configuration says of the model, made once and read only; each number stands alone",
    "models/memory_plan.cc: RankSizes": "the numbers that one rank's memory follows from, made once and read only",
    "kernels/cuda/attention_view.h: AttentionView": "one view for all kernels of attention; each reads a part of it",
    "kernels/router_forward_cuda.cu: Arguments": "one kernel does what are three on the CPU, with the tensors of all of them",
    "tests/parallel/toy_stage.h: ToyStage": "a whole stage for tests: its calls, beside all memory that the interface asks for",
}

# All units of these floors have a test of their name, and of the others those that are named.
TESTED_FLOORS = {"runtime", "models"}
TESTED_UNITS = {"parallel": {"row_stash", "pinned_pool"}, "launcher": {"sampler", "run_lock", "hf_config"}}


def WithoutComments(lines: list[str]) -> str:
    text = "\n".join(re.sub(r"//.*", "", line) for line in lines)
    return re.sub(r'"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)+\'', '""', text)


def Body(text: str, begin: int) -> str:
    """What stands between the brace at `begin` and its partner, without what is in braces or parentheses itself."""
    depth, body = 0, []
    for letter in text[begin:]:
        depth -= letter in "})"
        if depth == 1 and letter not in "{(":
            body.append(letter)
        elif letter == "}" and depth == 0:
            break
        if depth == 1 and letter == "}":
            body.append(";")  # the end of a function
        depth += letter in "{("
    return "".join(body)


def Statements(body: str) -> list[str]:
    """What is declared in a class, without access labels and without what stands in <>."""
    while (stripped := re.sub(r"<[^<>]*>", "", body)) != body:
        body = stripped
    return [re.sub(r"^(?:\s*(?:public|private|protected)\s*:(?!:))*\s*", "", statement) for statement in body.split(";")]


def DataMembers(statement: str) -> int:
    """How many data members a statement declares: `int64_t layers = 0, hidden = 0` are two."""
    if re.match(r"(using|enum|class|struct|union|template|static|friend|typedef)\b", statement) or ")" in statement:
        return 0
    if not re.match(r"[\w:]+[\s&*]", statement):
        return 0
    return len(re.findall(r"(?<=[\s&*,])[a-z]\w*\s*(?:\[[^\]]*\]\s*)*(?=[,}]|$)", re.sub(r"=[^,]*", "", statement).strip()))


def Classes(text: str) -> list[tuple[str, int, bool]]:
    """(name, number of data members, is it a record: a struct without functions) of every class, nested ones apart."""
    found = []
    for declared in re.finditer(r"\b(class|struct) (?:\w+::)*(\w+)(?: final)?(?:\s*:\s[^;{}()]*)?\s*\{", text):
        statements = Statements(Body(text, declared.end() - 1))
        functions = [s for s in statements if ")" in s and not re.search(r"\boperator\b.*\bdefault$", s)]
        found.append((declared[2], sum(DataMembers(s) for s in statements), declared[1] == "struct" and not functions))
    return found


def MemberProblems(root: str) -> list[str]:
    problems = []
    for path in Files(root):
        if not path.endswith(CPP):
            continue
        is_kernel = path.endswith(".cu") or path.startswith("kernels/cuda/")
        for name, count, is_record in Classes(WithoutComments(Lines(root, path))):
            if count > MOST_MEMBERS and (is_kernel or not is_record) and f"{path}: {name}" not in MANY_MEMBERS:
                problems.append(f"{path}:1: class {name} has {count} data members, at most {MOST_MEMBERS}: what are its jobs?")
    return problems


def Units(floor: str, files: list[str]) -> set[str]:
    """The units of a floor, by their headers and sources at its top."""
    names = {os.path.splitext(os.path.basename(path))[0] for path in files
             if os.path.dirname(path) == floor and path.endswith((".h", ".cc"))}
    return names - {"main"}


def NamedInReadme(root: str, floor: str, files: list[str]) -> set[str]:
    """Units for which a row or line of tests/FLOOR/README.md names the tests that hold them: first units, then tests."""
    path, named = f"tests/{floor}/README.md", set[str]()
    for line in Lines(root, path) if path in files else []:
        words = re.findall(r"[\w/.]+", line)
        tests = [word for word in words if re.search(r"_test\.(cc|py)$", word)]
        is_row = re.match(r"\s*[|*-]", line) or "->" in line
        if is_row and tests and all(f"tests/{floor}/{test}" in files or test in files for test in tests):
            named |= set(words[:words.index(tests[0])])
    return named


def TestProblems(root: str) -> list[str]:
    files, problems = Files(root), []
    for floor in FLOORS:
        named = NamedInReadme(root, floor, files)
        units = Units(floor, files) if floor in TESTED_FLOORS else TESTED_UNITS.get(floor, set())
        tests = {os.path.basename(path) for path in files if path.startswith(f"tests/{floor}/")}
        for unit in sorted(units - named):
            if not {f"{unit}_test.cc", f"{unit}_world_test.cc", f"{unit}_test.py"} & tests:
                header = f"{floor}/{unit}.h"
                problems.append(f"{header if header in files else f'{floor}/{unit}.cc'}:1: no tests/{floor}/{unit}_test.cc, and tests/{floor}/README.md does not say "
                                "which test holds it")
    return problems
