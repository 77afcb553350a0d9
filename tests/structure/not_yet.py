"""Rules that part of the tree does not keep yet. `structure_test.py` prints these problems and does not fail. Empty, as it
should be: an entry is for a change that must land in several steps, and goes with the last of them."""

NOT_YET: dict[str, set[str]] = {}  # rule: owners, a top folder or tests/FOLDER


def Owner(problem: str) -> str:
    """The folder that a problem "path:line: text" belongs to."""
    parts = problem.split(":")[0].split("/")
    return "/".join(parts[:2]) if parts[0] == "tests" and len(parts) > 2 else parts[0]


def Waiting(rule: str, problem: str) -> bool:
    return Owner(problem) in NOT_YET.get(rule, set())
