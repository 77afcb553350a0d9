"""Citations of documents: the file that a comment or a README names exists, and so does the heading.

Written as `parallel/SCHEDULE.md` or `parallel/SCHEDULE.md, "Slots and lanes"`, with the path from the tree's root. A README
may also name a document by its path from the README's own folder.
"""
import os
import re

from structure.tree import TEXT, Files, Lines

CITATION = re.compile(r'(?<![\w$"{}*./\']|\\)((?:[\w.-]+/)*[A-Z][A-Z_]+\.md)\b`?(?:,\s+"([^"\n]+)")?')
MADE_ELSEWHERE = {"BUNDLE.md"}  # documents that tools write
RULES = "tests/structure"       # the rules and their planted violations cite what is not there
ABSENT = re.compile(r"\bDESIGN\b")


def Headings(root: str, path: str) -> set[str]:
    return {line.lstrip("#").strip() for line in Lines(root, path) if line.startswith("#")}


def Joined(lines: list[str]) -> list[tuple[int, str]]:
    """Lines with their numbers; a comment that goes on in the next line is joined to it where it stands between two words."""
    joined = []
    for number, line in enumerate(lines, 1):
        below = re.match(r"\s*(?://+|#)\s*(.*)$", lines[number]) if number < len(lines) else None
        joined.append((number, line + " " + below[1] if below and re.search(r"\.md`?,(?: \"[^\"]*)?$", line) else line))
    return joined


def Cited(root: str, path: str, document: str) -> str | None:
    """The path from the root of what is cited, or None."""
    for candidate in (document, os.path.normpath(os.path.join(os.path.dirname(path), document))):
        if os.path.isfile(os.path.join(root, candidate)):
            return candidate
    return None


def CitationProblems(root: str) -> list[str]:
    problems = []
    for path in Files(root):
        if not path.endswith(TEXT) or path.startswith(RULES):
            continue
        for number, line in Joined(Lines(root, path)):
            if ABSENT.search(line):
                problems.append(f"{path}:{number}: cites a design that is not in the tree; name the document and heading that is")
            for document, heading in CITATION.findall(line):
                cited = Cited(root, path, document)
                if document in MADE_ELSEWHERE or re.search(r"\b[A-Z]+/", document):  # tests/FLOOR/README.md is any floor's
                    continue
                if not cited:
                    problems.append(f"{path}:{number}: cites {document}, which does not exist")
                elif heading and heading not in Headings(root, cited):
                    problems.append(f"{path}:{number}: cites {document}, \"{heading}\"; it has no such heading")
    return problems
