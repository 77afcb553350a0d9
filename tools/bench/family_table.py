"""The table of family_bench.py: means over seeds, and differences between variants that are paired by seed."""
from __future__ import annotations

import math
import statistics
from typing import Any

Row = dict[str, Any]
REFERENCES = ["vanilla", "unipool"]  # the variants that the others are compared with


def paired_difference(rows: dict[int, Row], reference: dict[int, Row]) -> tuple[float, float, int] | None:
    """Mean of loss - reference's loss over the seeds that both have, its standard error (nan for one seed), how many."""
    differences = [rows[seed]["valid_loss"] - reference[seed]["valid_loss"] for seed in sorted(rows) if seed in reference]
    if not differences:
        return None
    n = len(differences)
    error = statistics.stdev(differences) / math.sqrt(n) if n > 1 else math.nan
    return statistics.fmean(differences), error, n


def difference_text(difference: tuple[float, float, int] | None) -> str:
    if difference is None:
        return "-"
    mean, error, _ = difference
    return f"{mean:+.4f}" + (f" ± {error:.4f}" if error == error else " (one seed)")


def count_text(number: int) -> str:
    return f"{number / 1e6:.2f}M" if number >= 1e6 else f"{number / 1e3:.0f}K"


def mean(rows: dict[int, Row], name: str) -> float:
    return statistics.fmean(row[name] for row in rows.values())


def table_line(what: str, rows: dict[int, Row], references: list[dict[int, Row]]) -> str:
    losses = [row["valid_loss"] for row in rows.values()]
    spread = f" (sd {statistics.stdev(losses):.4f})" if len(losses) > 1 else ""
    first = next(iter(rows.values()))
    differences = [difference_text(None if rows is reference else paired_difference(rows, reference)) for reference in references]
    return " | ".join([f"| {what}", f"{count_text(first['total'])} / {count_text(first['active'])}",
                       ", ".join(str(seed) for seed in sorted(rows)), f"{statistics.fmean(losses):.4f}{spread}", *differences,
                       f"{mean(rows, 'max_violation'):.2f}", f"{100 * mean(rows, 'tie_share'):.0f} %",
                       f"{mean(rows, 'dead_experts'):.1f} |"])


def table(rows: dict[str, dict[int, Row]], whats: dict[str, str], refused: dict[str, str]) -> str:
    """In Markdown. rows: variant -> seed -> row; whats: how each variant is called, in the table's order; refused: variants
    that do not run, and why."""
    references = [rows.get(name, {}) for name in REFERENCES]
    lines = ["| variant | parameters, all / of a token | seeds | validation loss | - vanilla | - UniPool | max violation | ties | dead |",
             "|---|---|---|---|---|---|---|---|---|"]
    for name, what in whats.items():
        if name in rows:
            lines.append(table_line(what, rows[name], references))
        elif name in refused:
            reason = refused[name].removeprefix("error: ").split(";")[0]
            lines.append(f"| {what} | does not run: {reason} | | | | | | | |")
    return "\n".join(lines) + "\n"
