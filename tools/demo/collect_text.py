#!/usr/bin/env python3
"""Collects English prose that a Debian machine already has, as one text file to train on.

Sources: the manuals of GNU's tools (info), man pages, CMake's and Perl's manuals, docstrings of Python's library, README,
NEWS and copyright files, licences. Their licences (GPL, FDL, MIT, BSD, Artistic, ...; each package's stands in
/usr/share/doc/PACKAGE/copyright) let whoever has the machine read, copy and change them, so also train on them there.
The text is not for handing on.

Kept are paragraphs that read like prose (IsProse): sentences of plain words, no code, no lists, no tables, no law in
capitals; of each sentence that many files share the first. One paragraph is one line, an empty line ends a document (one
file's paragraphs), and documents stand in the order of their digests: the same machine gives the same file, and every
part of it is the same mixture.
"""
from __future__ import annotations

import argparse
import glob
import gzip
import hashlib
import os
import re
from collections.abc import Callable

MOST_BYTES_OF_A_SOURCE = 3_000_000  # so that no source outweighs the others, and for speed

LEAST_BYTES = 600_000  # of prose; a machine with less keeps whatever reads like English at all

COMMON_WORDS = frozenset("""
    the of to and a in is that for it as be on with by this are or not you if can which an from at was were has have had will
    would should may must do does did so but when then than there their they them these those its all any no only also such
    other some one more most each your we our he his i my who what how where while into about after before because been being
    between both could during even first however just like made make many much new now out over same since still through too
    two under until up use used very way well without""".split())


PLAIN = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2010": "-", "\u00a0": " "})


def ReadText(path: str) -> str:
    try:
        with gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb") as file:
            text: bytes = file.read(4_000_000)
        return text.decode("utf-8", "replace").translate(PLAIN)
    except (OSError, EOFError):
        return ""  # a file that cannot be read is one document less


def Paragraphs(text: str) -> list[str]:
    return re.split(r"\n[ \t]*\n", text.replace("\r", ""))


def PlainParagraphs(text: str) -> list[str]:
    """README and the like, reStructuredText, copyright files (where a line with a lone dot is an empty one)."""
    text = re.sub(r"(?m)^ \.$", "", text)
    return Paragraphs(re.sub(r":[a-z:_-]+:`([^`<]*?)(?: *<[^>`]*>)?`|``([^`]*)``", r"\1\2", text))


def InfoParagraphs(text: str) -> list[str]:
    """Info manuals: text, or what explains a term, but no examples (5 blanks deep below an empty line), menus and indices."""
    text = re.sub(r"\x1f\n.*\n", "\n", text)
    text = re.sub(r"(?m)^ -- .*\n", "\n", text)  # a term; what explains it is 5 blanks deep
    kept = []
    for paragraph in Paragraphs(text):
        if not re.search(r"(?m)^(?:\*|[-=*.]{4,}$|File: )|\.{4}|\bsee \*|\*[Nn]ote ", paragraph):
            kept.append(paragraph)
    return kept


def PodParagraphs(text: str) -> list[str]:
    """Perl's documentation: blocks between =head, =over, =item, ... and =cut, without B<>, C<> and their kin."""
    kept, inside = [], not re.search(r"(?m)^(package|use) ", text)
    for paragraph in Paragraphs(text):
        if paragraph.startswith("="):
            inside = not paragraph.startswith("=cut")
        elif inside and not paragraph.startswith((" ", "\t")):
            kept.append(re.sub(r"[A-Z]<(?:[^<>|]*\|)?([^<>]*)>", r"\1", re.sub(r"E<gt>|E<lt>", "", paragraph)))
    return kept


def DocstringParagraphs(text: str) -> list[str]:
    kept: list[str] = []
    for body in re.findall(r'"""(.*?)"""', text, re.S):
        kept += Paragraphs(body)
    return kept


def ManParagraphs(text: str) -> list[str]:
    """Man pages: text lines between requests; fonts, escapes and requests that set words in bold are undone."""
    text = re.sub(r"(?m)^\.(?:BR?|IR?|RB|RI|BI|IB|Nm|Xr|Fl|Ar|Pa|Dq|Em|Sy) +(.*)$", r"\1", text)
    text = re.sub(r"(?m)^['.].*$", "\n", text)
    text = re.sub(r"\\f(?:\[\w*\]|\(..|.)|\\[&/,|^:%]|\\s[-+]?\d", "", text)
    text = re.sub(r"\\\((?:lq|rq)|\\\*\((?:lq|rq)", '"', text)
    text = re.sub(r"\\\((?:aq|cq|oq)", "'", text)
    text = text.replace("\\(rs", "\\").replace("\\-", "-").replace("\\ ", " ").replace("\\~", " ").replace("\\e", "\\")
    return Paragraphs(text)


SOURCES: list[tuple[list[str], Callable[[str], list[str]]]] = [
    (["usr/share/info/*.info*"], InfoParagraphs),
    (["usr/share/doc/**/" + name for name in
      ("copyright", "README*", "NEWS*", "FAQ*", "*.txt", "*.txt.gz", "*.rst", "*.rst.gz", "*.md", "*.md.gz")],
     PlainParagraphs),
    (["usr/share/cmake*/Help/**/*.rst"], PlainParagraphs),
    (["usr/share/perl*/**/*.p[odm]*", "usr/lib/*/perl*/**/*.p[odm]*"], PodParagraphs),
    (["usr/lib/python3*/**/*.py"], DocstringParagraphs),
    (["usr/share/man/man[1-8]/*"], ManParagraphs),
    (["usr/share/common-licenses/*"], PlainParagraphs),
]


def SentencesOf(paragraph: str) -> list[str]:
    return re.split(r"(?<=[.!?])[\")]* +(?=[A-Z\"(])", paragraph)


def IsEnglish(paragraph: str) -> bool:
    """Is a paragraph (one line, single blanks) mostly English words in sentences, not code, a table or a list?"""
    if not 80 <= len(paragraph) <= 4000 or not paragraph.isascii():
        return False
    letters = sum(c.isalpha() or c == " " for c in paragraph)
    if letters < 0.93 * len(paragraph) or not paragraph[0].isalpha() or paragraph[-1] not in ".:!?)\"":
        return False
    words = paragraph.lower().split(" ")
    common = sum(word in COMMON_WORDS for word in words)
    return common >= 0.25 * len(words) and max(map(len, words)) <= 40


NOT_PROSE = re.compile(r"[_/\\<>=@#$%^*{}\[\]|~+&`;]|\w[.:]\w|[a-z][A-Z]|--|''|::|\.\.|\w\(|\( |\bee? \*")


def IsProse(paragraph: str) -> bool:
    """Does it also read like a page of a book: whole sentences of plain words, hardly a name, number or capital letter?"""
    if not IsEnglish(paragraph) or not paragraph[0].isupper() or paragraph[-1] not in ".!?\"":
        return False
    if NOT_PROSE.search(paragraph) or sum(c.isdigit() for c in paragraph) > 0.01 * len(paragraph):
        return False
    words = [word.strip(".,:!?\"'()") for word in paragraph.split(" ")]
    return (sum(word.lower() in COMMON_WORDS for word in words) >= 0.38 * len(words)
            and sum(len(word) > 1 and word.isupper() for word in words) <= 0.04 * len(words)
            and sum(word[:1].isupper() for word in words) <= 0.2 * len(words)
            and max(map(len, words)) <= 24
            and all(4 <= sentence.count(" ") + 1 <= 60 for sentence in SentencesOf(paragraph)))


class Digests:
    """The sentences that were seen."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()

    def AreMostlyNew(self, paragraph: str) -> bool:
        found = [hashlib.sha256(re.sub(r"[^a-z]", "", sentence.lower()).encode()).digest()[:12]
                 for sentence in SentencesOf(paragraph)]
        new = sum(digest not in self.seen for digest in found)
        self.seen.update(found)
        return 2 * new > len(found)


def ProseOf(path: str, paragraphs_of: Callable[[str], list[str]], is_prose: Callable[[str], bool], seen: Digests) -> list[str]:
    """The paragraphs of a file that are prose and new."""
    kept = []
    for paragraph in paragraphs_of(ReadText(path)):
        if re.search(r"\S {3,}\S|[{};|]\n", paragraph):
            continue  # columns or code
        line = " ".join(re.sub(r"(?m)^ *(?:[#*>-]+|//+) ", "", paragraph).split())
        if is_prose(line) and seen.AreMostlyNew(line):
            kept.append(line)
    return kept


def Collect(root: str, is_prose: Callable[[str], bool] = IsProse) -> tuple[list[bytes], dict[str, int]]:
    """(the documents in the order of their digests, the bytes that each source gave)"""
    documents, bytes_of, seen = list[bytes](), dict[str, int](), Digests()
    for patterns, paragraphs_of in SOURCES:
        paths = {path for pattern in patterns for path in glob.glob(os.path.join(root, pattern), recursive=True)}
        size = 0
        for path in sorted(paths):
            if os.path.islink(path) or not os.path.isfile(path) or "/test/" in path or "/tests/" in path:
                continue
            if size >= MOST_BYTES_OF_A_SOURCE:
                break
            kept = ProseOf(path, paragraphs_of, is_prose, seen)
            if kept:
                documents.append(("\n".join(kept) + "\n\n").encode())
                size += len(documents[-1])
        bytes_of[patterns[0]] = size
    documents.sort(key=lambda document: hashlib.sha256(document).digest())
    return documents, bytes_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", metavar="OUTPUT")
    parser.add_argument("root", metavar="ROOT", nargs="?", default="/", help="where usr/share lies (/)")
    arguments = parser.parse_args()
    output = arguments.output
    documents, bytes_of = Collect(arguments.root)
    if sum(bytes_of.values()) < LEAST_BYTES:
        print(f"  only {sum(bytes_of.values()) / 1e6:.2f} MB read like a book; taking all that reads like English")
        documents, bytes_of = Collect(arguments.root, IsEnglish)
    with open(output + ".partial", "wb") as file:
        file.writelines(documents)
    os.replace(output + ".partial", output)
    for source, size in bytes_of.items():
        print(f"  {size / 1e6:6.2f} MB  /{source}")
    print(f"{output}: {sum(map(len, documents)) / 1e6:.2f} MB of prose in {len(documents)} documents")


if __name__ == "__main__":
    main()
