"""The tree's own files, and the words that all structure rules share."""
import os
import re
import shutil
import subprocess

FLOORS = ["runtime", "kernels", "parallel", "models", "launcher"]  # bottom first
CPP = (".h", ".cc", ".cu", ".cuh")
TEXT = CPP + (".py", ".sh", ".proto", ".txt", ".txtpb", ".md", ".json", "tools/dev", ".ci/run")


def GitFiles(root: str) -> list[str] | None:
    """What git knows or would take, or None if this is no checkout that git can read."""
    if not os.path.exists(os.path.join(root, ".git")) or not shutil.which("git"):
        return None
    git = subprocess.run(["git", "-C", root, "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
                         capture_output=True, check=False)
    return git.stdout.decode().split("\0") if git.returncode == 0 else None


def Files(root: str) -> list[str]:
    """Paths of the tree's own files. Without git these are all files but those that .gitignore names."""
    paths = GitFiles(root)
    if paths is None:
        paths = [os.path.relpath(os.path.join(folder, name), root)
                 for folder, _, names in os.walk(root) for name in names]
        paths = [path for path in paths if not re.search(r"^(build[^/]*|runs|\.git)/|__pycache__|^compile_commands", path)]
    return sorted(path for path in paths if path and os.path.isfile(os.path.join(root, path)))


def Lines(root: str, path: str) -> list[str]:
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
        return file.read().splitlines()
