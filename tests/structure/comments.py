"""Layout of comments: tables, lists and declarations that a formatter broke, seen by their traces.

A formatter that fills comments anew joins the rows of a table. What it leaves behind are lines of one or two words in
the midst of a paragraph, and rows whose columns do not stand below one another.
"""
import re
from collections.abc import Iterator

from structure.tree import CPP, Files, Lines

COLUMN_LIMIT = 110
FULL_LINE = 85       # columns; a line before a break that nobody chose has at least so many
MOST_STRAY_WORDS = 2


def CommentBlocks(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """(number of the first line, texts behind // with their indentation) of each run of lines that are comments alone."""
    first, block = 0, list[str]()
    for number, line in enumerate([*lines, ""], 1):
        text = re.match(r"\s*//+(.*)$", line)
        if text:
            first = first if block else number
            block.append(line)
        elif block:
            yield first, block
            block = []


def Indent(line: str) -> int:
    """The column of a comment's first word."""
    return len(line) - len(line.partition("//")[2].lstrip())


def Columns(line: str) -> set[int]:
    """Columns at which words begin behind a gap of two spaces or more."""
    return {gap.end() for gap in re.finditer(r"(?<=\S) {2,}(?=\S)", line) if gap.start() > Indent(line)}


def IsStray(above: str, line: str, below: str) -> bool:
    """One or two words that end no sentence, between a full line and another of the same paragraph."""
    words = line.partition("//")[2].split()
    if not 0 < len(words) <= MOST_STRAY_WORDS or len(above) < FULL_LINE or not below.partition("//")[2].strip():
        return False
    is_row_of_list = re.match(r"(?:[-*]|\d+\.)$", words[0])
    is_end = words[-1][-1] in ".:;)" and not Columns(above)
    return not is_end and not is_row_of_list and Indent(line) <= Indent(above)


def IsSpilled(row: str, below: str) -> bool:
    """A full row of a table whose last cell goes on where rows begin."""
    is_row = bool(Columns(row)) and row.partition("//")[2].startswith("  ")
    return (is_row and len(row) >= FULL_LINE and Indent(below) == Indent(row)
            and bool(below.partition("//")[2].strip()) and not Columns(row) & Columns(below))


def CommentTraces(block: list[str]) -> Iterator[tuple[int, str]]:
    """(index of a line, what is wrong with it)"""
    for i, line in enumerate(block):
        above, below = block[i - 1] if i else "", block[i + 1] if i + 1 < len(block) else "//"
        if IsStray(above, line, below):
            yield i, "a comment's line of one or two words in the midst of a paragraph: was a list or table filled anew?"
        elif IsSpilled(line, below):
            yield i, "the last cell of this row goes on where rows begin: was a list or table filled anew?"
        if len(line) > COLUMN_LIMIT:
            yield i, f"a comment of {len(line)} columns, at most {COLUMN_LIMIT}"


def CommentProblems(root: str, path: str) -> list[str]:
    return [f"{path}:{first + i}: {what}"
            for first, block in CommentBlocks(Lines(root, path)) for i, what in CommentTraces(block)]


def Code(line: str) -> str:
    """The line without a comment at its end."""
    return re.sub(r"\s*//.*$", "", line) if '"' not in line else re.sub(r"\s*//[^\"]*$", "", line)


def IsBroken(above: str, line: str) -> bool:
    """Does `line` continue `above` only because a comment at its end left no room?"""
    code = Code(line)
    if code == line or not code.strip() or "//" in above or not above.strip():
        return False
    if re.match(r"\s*(#|if \(|for \(|while \(|else$)", above):
        return False
    if above.rstrip()[-1] in ";{}:" or len(above.rstrip()) + 1 + len(code.strip()) > COLUMN_LIMIT:
        return False
    return above.rstrip()[-1] != "," or above.count("(") > above.count(")")


def DeclarationProblems(root: str, path: str) -> list[str]:
    lines = Lines(root, path)
    return [f"{path}:{number}: a comment at the end of a line broke the declaration; it belongs above"
            for number, (above, line) in enumerate(zip(lines, lines[1:]), 2) if IsBroken(above, line)]


def LayoutProblems(root: str) -> list[str]:
    return [problem for path in Files(root) if path.endswith(CPP)
            for problem in CommentProblems(root, path) + DeclarationProblems(root, path)]
