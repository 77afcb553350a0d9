"""The tree's own files, and the words that all structure rules share."""
import os
import re
import shutil
import subprocess

FLOORS = ["runtime", "kernels", "parallel", "models", "launcher"]  # bottom first
CPP = (".h", ".cc", ".cu", ".cuh")
TEXT = CPP + (".py", ".sh", ".proto", ".txt", ".txtpb", ".md", ".json", "tools/dev", ".ci/run")


TOP_LEVEL = set(FLOORS) | {"configs", "tests", "tools", "CMakeLists.txt", "CMakePresets.json", "README.md"}
HIDDEN_TOP_LEVEL = {".github", ".ci", ".gitignore", ".clang-format", ".clang-tidy"}


def ListedByGit(root: str, *options: str) -> list[str] | None:
    """None if this is no checkout that git can read."""
    if not os.path.exists(os.path.join(root, ".git")) or not shutil.which("git"):
        return None
    git = subprocess.run(["git", "-C", root, "ls-files", *options, "-z"], capture_output=True, check=False)
    return git.stdout.decode().split("\0") if git.returncode == 0 else None


def IsPlanned(path: str) -> bool:
    return path.split("/")[0] in TOP_LEVEL | HIDDEN_TOP_LEVEL


def Files(root: str) -> list[str]:
    """Paths of the tree's own files: what git knows, and what it does not know yet in folders of the plan. Anything else
    at the top level is a user's: texts, data, folders. Without git the folders of the plan are all there is."""
    paths = ListedByGit(root)
    if paths is not None:
        paths += filter(IsPlanned, ListedByGit(root, "--others", "--exclude-standard") or [])
    else:
        paths = [os.path.relpath(os.path.join(folder, name), root)
                 for folder, _, names in os.walk(root) for name in names]
        paths = [path for path in paths if IsPlanned(path) and "__pycache__" not in path]
    return sorted(path for path in paths if path and os.path.isfile(os.path.join(root, path)))


def Lines(root: str, path: str) -> list[str]:
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
        return file.read().splitlines()
