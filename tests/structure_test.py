#!/usr/bin/env python3
"""Does the tree keep to the house's plan? Include and link direction of the five floors, a README in every folder,
file sizes, names. Each rule is also shown to see a violation that is planted in a copy of the tree.

Usage: structure_test.py SOURCE_DIR
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

FLOORS = ["runtime", "kernels", "parallel", "models", "launcher"]  # bottom first
READS_CONFIGS = {"models", "launcher"}
FOLDERS_WITH_README = FLOORS + ["configs", "tests", "tools"]
TOP_LEVEL = set(FOLDERS_WITH_README) | {"CMakeLists.txt", "CMakePresets.json", "README.md"}
FORBIDDEN_NAMES = {"utils", "util", "common", "misc"}
MOST_README_LINES = 30
MOST_LINES = 400
LONG_FILES = {}  # path: why it is longer

# Folders that a file of each folder may include from.
MAY_INCLUDE = {floor: set(FLOORS[:i + 1]) | ({"configs"} if floor in READS_CONFIGS else set())
               for i, floor in enumerate(FLOORS)}
MAY_INCLUDE["configs"] = {"configs"}


def GitFiles(root):
    """What git knows or would take, or None if this is no checkout that git can read."""
    if not os.path.exists(os.path.join(root, ".git")) or not shutil.which("git"):
        return None
    git = subprocess.run(["git", "-C", root, "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
                         capture_output=True, check=False)
    return git.stdout.decode().split("\0") if git.returncode == 0 else None


def Files(root):
    """Paths of the tree's own files; without git, all but those that .gitignore names."""
    paths = GitFiles(root)
    if paths is None:
        paths = [os.path.relpath(os.path.join(folder, name), root)
                 for folder, _, names in os.walk(root) for name in names]
        paths = [path for path in paths if not re.search(r"^(build[^/]*|runs|\.git)/|__pycache__|^compile_commands", path)]
    return sorted(path for path in paths if path and os.path.isfile(os.path.join(root, path)))


def Lines(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
        return file.read().splitlines()


def IncludeProblems(root, path):
    folder = path.split("/")[0]
    if folder not in MAY_INCLUDE or not path.endswith((".h", ".cc", ".cu", ".cuh")):
        return []
    problems = []
    for number, line in enumerate(Lines(root, path), 1):
        include = re.match(r'\s*#\s*include\s+"([^"]*)"', line)
        if include and include[1].split("/")[0] not in MAY_INCLUDE[folder]:
            problems.append(f'{path}:{number}: includes "{include[1]}"; {folder} may include from '
                            f'{", ".join(sorted(MAY_INCLUDE[folder]))} only, with the folder in the path')
    return problems


def LinkProblems(root, floor):
    text = " ".join(Lines(root, f"{floor}/CMakeLists.txt"))
    linked = re.findall(r"(?:unipool_floor|target_link_libraries)\(([^)]*)\)", text)
    allowed = MAY_INCLUDE[floor] | {"unipool"}  # the program of launcher links launcher
    return [f"{floor}/CMakeLists.txt: links {word}, a floor above {floor}"
            for call in linked for word in call.split() if word in FLOORS and word not in allowed]


def ReadmeProblems(root, folder, files):
    path = f"{folder}/README.md"
    if path not in files:
        return [f"{path}: is missing; say what lives there, what does not, and how to add one"]
    count = len(Lines(root, path))
    return [f"{path}: has {count} lines, at most {MOST_README_LINES}"] if count > MOST_README_LINES else []


def SizeProblems(root, path):
    if not path.endswith((".h", ".cc", ".cu", ".py", ".sh", ".proto", ".txt", ".md")) and path != "tools/dev":
        return []
    count = len(Lines(root, path))
    if path in LONG_FILES:
        return [] if count > MOST_LINES else [f"{path}: has {count} lines; take it off the list of long files"]
    return [f"{path}: has {count} lines, at most {MOST_LINES}"] if count > MOST_LINES else []


def NameProblems(path):
    parts = path.split("/")
    problems = [f"{path}: no folder is called {part}; name what lives there"
                for part in parts[:-1] if part in FORBIDDEN_NAMES]
    if parts[0] not in TOP_LEVEL and not parts[0].startswith("."):
        problems.append(f"{path}: {parts[0]} does not belong to the top level of the tree")
    return problems


def Problems(root):
    files = Files(root)
    problems = []
    for folder in FOLDERS_WITH_README:
        problems += ReadmeProblems(root, folder, files)
    for floor in FLOORS:
        problems += LinkProblems(root, floor)
    for path in files:
        problems += IncludeProblems(root, path) + SizeProblems(root, path) + NameProblems(path)
    return problems


class StructureTest(unittest.TestCase):
    root = "."

    def setUp(self):
        self.copy = tempfile.mkdtemp(prefix="unipool-structure-")
        self.addCleanup(shutil.rmtree, self.copy)

    def CopyTree(self):
        for path in Files(self.root):
            target = os.path.join(self.copy, path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.copyfile(os.path.join(self.root, path), target)

    def Write(self, path, text):
        target = os.path.join(self.copy, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "a", encoding="utf-8") as file:
            file.write(text)

    def test_tree_keeps_the_plan(self):
        files = Files(self.root)
        self.assertGreater(len([path for path in files if IncludePath(path)]), 50, "the tree was not found")
        self.assertEqual([], Problems(self.root))

    def test_planted_violations_are_seen(self):
        self.CopyTree()
        self.assertEqual([], Problems(self.copy))
        plants = {
            "runtime/planted.h": ('#include "kernels/gemm.h"\n', 'runtime/planted.h:1: includes "kernels/gemm.h"'),
            "parallel/planted.cc": ('\n#include "models/router.h"\n', "parallel/planted.cc:2: includes"),
            "kernels/planted.cc": ('#  include "configs/config.pb.h"\n', "kernels/planted.cc:1: includes"),
            "models/planted.h": ('#include "router.h"\n', 'models/planted.h:1: includes "router.h"'),
            "launcher/planted.cc": ('#include "tests/world_test.h"\n', "launcher/planted.cc:1: includes"),
            "kernels/CMakeLists.txt": ("target_link_libraries(kernels PUBLIC parallel)\n", "links parallel"),
            "models/README.md": ("\n" * 31, "models/README.md: has"),
            "tests/planted_test.cc": ("\n" * (MOST_LINES + 1), "tests/planted_test.cc: has 401 lines"),
            "runtime/utils/planted.h": ("", "no folder is called utils"),
            "docs/planted.md": ("", "docs does not belong to the top level"),
        }
        for path, (text, _) in plants.items():
            self.Write(path, text)
        found = Problems(self.copy)
        for path, (_, expected) in plants.items():
            self.assertTrue(any(expected in problem for problem in found), f"{path} went unseen in {found}")
        self.assertEqual(len(plants), len(found), found)

    def test_missing_readme_is_seen(self):
        self.CopyTree()
        os.remove(os.path.join(self.copy, "kernels/README.md"))
        self.assertEqual(1, len(Problems(self.copy)))
        self.assertIn("kernels/README.md: is missing", Problems(self.copy)[0])


def IncludePath(path):
    return path.split("/")[0] in MAY_INCLUDE and path.endswith((".h", ".cc"))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    StructureTest.root = sys.argv.pop(1)
    unittest.main()
