"""A table for readers, and its forms: Markdown, LaTeX and CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from l2l.suite.files.atomic import write_text_atomic


@dataclass(frozen=True)
class Cell:
    """A cell's text; `value` is what it is sorted by, the text where that is None."""

    text: str
    value: float | None = None
    bold: bool = False
    badge: bool = False


@dataclass(frozen=True)
class Table:
    """A table for readers, and the numbers behind it as `data`."""

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    data: pd.DataFrame
    notes: tuple[str, ...] = ()


def save_table(table: Table, folder: Path) -> None:
    """Write the table as .md, .tex and .csv; raises as `suite.files.atomic.atomic_path` does."""
    write_text_atomic(folder / f"{table.name}.md", markdown(table))
    write_text_atomic(folder / f"{table.name}.tex", latex(table))
    write_text_atomic(folder / f"{table.name}.csv", table.data.to_csv(index=False))


def markdown(table: Table) -> str:
    """GitHub's Markdown: caption, table, notes."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    lines = [markdown_text(table.caption), "", line([markdown_text(c) for c in table.columns])]
    lines.append(line(["---"] * len(table.columns)))
    for row in table.rows:
        texts = [(markdown_text(cell.text), cell.bold) for cell in row]
        lines.append(line([f"**{text}**" if bold and text else text for text, bold in texts]))
    lines += [f"\nNote: {markdown_text(note)}" for note in table.notes]
    return "\n".join(lines) + "\n"


def markdown_text(text: str) -> str:
    """`text` with what Markdown or HTML would take for markup escaped."""
    for special in "\\`*_|[]#~$":
        text = text.replace(special, "\\" + special)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")


GREEK = (
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"),
    *("lambda", "mu", "nu", "xi", "omicron", "pi", "rho", "varsigma", "sigma", "tau", "upsilon"),
    *("varphi", "chi", "psi", "omega"),
)
CAPITALS = (
    *("Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega"),
)
LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "[": "{[}",  # at the start of a row it would be an option of the line break before
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "|": r"\textbar{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "−": r"$-$",
    "∞": r"$\infty$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "∇": r"$\nabla$",
    "…": r"\dots{}",
    "\n": " ",
    **{chr(ord("α") + i): f"$\\{name}$" for i, name in enumerate(GREEK)},
    **{capital: f"$\\{name}$" for capital, name in zip("ΓΔΘΛΞΠΣΥΦΨΩ", CAPITALS, strict=True)},
    # Those that look like Latin letters have no commands.
    **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΧο", "ABEZHIKMNOPTXo", strict=True)),
}
# A float cannot break: more rows than these are a table of several pages.
MOST_ON_A_PAGE = 40


def latex_text(text: str) -> str:
    """`text` with LaTeX's special characters escaped."""
    return "".join(LATEX.get(character, character) for character in text)


def latex(table: Table) -> str:
    """A `table` environment, or of many rows a `longtable`, which may break.

    It needs the package booktabs, and longtable. Where text is long it needs tabularx, or xltabular
    instead of longtable. Names in other scripts than Latin and Greek need XeLaTeX or LuaLaTeX and a
    font.
    """
    wide = [
        max((len(row[i].text) for row in table.rows), default=0) > 40
        for i in range(len(table.columns))
    ]
    kinds = "".join(
        "X" if wide[i] else "l" if all(row[i].value is None for row in table.rows) else "r"
        for i in range(len(table.columns))
    )
    is_long = len(table.rows) > MOST_ON_A_PAGE
    if any(wide):
        kind, width = "xltabular" if is_long else "tabularx", r"{\textwidth}"
    else:
        kind, width = "longtable" if is_long else "tabular", ""
    begin = rf"\begin{{{kind}}}{width}{{{kinds}}}"
    caption = [rf"\caption{{{latex_text(table.caption)}}}", rf"\label{{tab:{table.name}}}"]
    head = [r"\toprule", " & ".join(map(latex_text, table.columns)) + r" \\", r"\midrule"]
    if is_long:
        lines = [begin, *caption, r"\\", *head, r"\endfirsthead", *head, r"\endhead"]
    else:
        lines = [r"\begin{table}", r"\centering", *caption, begin, *head]
    for row in table.rows:
        texts = [(latex_text(cell.text), cell.bold) for cell in row]
        cells = [rf"\textbf{{{text}}}" if bold and text else text for text, bold in texts]
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", rf"\end{{{kind}}}"]
    for note in table.notes:
        lines += ["", rf"\smallskip{{\footnotesize {latex_text(note)}}}"]
    lines += [] if is_long else [r"\end{table}"]
    return "\n".join(lines) + "\n"
