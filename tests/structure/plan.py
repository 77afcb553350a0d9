"""The plan of the house: include and link direction of the floors, READMEs, sizes and names of files."""
import re

from structure.tree import CPP, FLOORS, TOP_LEVEL, Files, Lines

READS_CONFIGS = {"models", "launcher"}
FOLDERS_WITH_README = FLOORS + ["configs", "tests", "tools"]
FORBIDDEN_NAMES = {"utils", "util", "common", "misc"}
MOST_README_LINES = 30
MOST_LINES = 400
LONG_FILES: dict[str, str] = {}  # path: why it is longer

# Folders that a file of each folder may include from.
MAY_INCLUDE = {floor: set(FLOORS[:i + 1]) | ({"configs"} if floor in READS_CONFIGS else set())
               for i, floor in enumerate(FLOORS)}
MAY_INCLUDE["configs"] = {"configs"}


def IncludeProblems(root: str, path: str) -> list[str]:
    folder = path.split("/")[0]
    if folder not in MAY_INCLUDE or not path.endswith(CPP):
        return []
    problems = []
    for number, line in enumerate(Lines(root, path), 1):
        include = re.match(r'\s*#\s*include\s+"([^"]*)"', line)
        if include and include[1].split("/")[0] not in MAY_INCLUDE[folder]:
            problems.append(f'{path}:{number}: includes "{include[1]}"; {folder} may include from '
                            f'{", ".join(sorted(MAY_INCLUDE[folder]))} only, with the folder in the path')
        elif include and include[1].startswith("kernels/cpu/") and folder != "kernels":
            problems.append(f'{path}:{number}: includes "{include[1]}", which only kernels may: it is no contract')
    return problems


def LinkProblems(root: str, floor: str) -> list[str]:
    text = " ".join(Lines(root, f"{floor}/CMakeLists.txt"))
    linked = re.findall(r"(?:unipool_floor|target_link_libraries)\(([^)]*)\)", text)
    allowed = MAY_INCLUDE[floor] | {"unipool"}  # the program of launcher links launcher
    return [f"{floor}/CMakeLists.txt: links {word}, a floor above {floor}"
            for call in linked for word in call.split() if word in FLOORS and word not in allowed]


def ReadmeProblems(root: str, folder: str, files: list[str]) -> list[str]:
    path = f"{folder}/README.md"
    if path not in files:
        return [f"{path}: is missing; say what lives there, what does not, and how to add one"]
    count = len(Lines(root, path))
    return [f"{path}: has {count} lines, at most {MOST_README_LINES}"] if count > MOST_README_LINES else []


def SizeProblems(root: str, path: str) -> list[str]:
    if not path.endswith((*CPP, ".py", ".sh", ".proto", ".txt", ".md")) and path != "tools/dev":
        return []
    count = len(Lines(root, path))
    if path in LONG_FILES:
        return [] if count > MOST_LINES else [f"{path}: has {count} lines; take it off the list of long files"]
    return [f"{path}: has {count} lines, at most {MOST_LINES}"] if count > MOST_LINES else []


def NameProblems(path: str) -> list[str]:
    parts = path.split("/")
    problems = [f"{path}: no folder is called {part}; name what lives there"
                for part in parts[:-1] if part in FORBIDDEN_NAMES]
    if parts[0] not in TOP_LEVEL and not parts[0].startswith("."):
        problems.append(f"{path}: {parts[0]} does not belong to the top level of the tree")
    return problems


def PlanProblems(root: str) -> list[str]:
    files = Files(root)
    problems = []
    for folder in FOLDERS_WITH_README:
        problems += ReadmeProblems(root, folder, files)
    for floor in FLOORS:
        problems += LinkProblems(root, floor)
    for path in files:
        problems += IncludeProblems(root, path) + SizeProblems(root, path) + NameProblems(path)
    return problems
