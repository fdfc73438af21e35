"""Tables as a reader wants to see them, and as LaTeX can set them."""

from __future__ import annotations

import pandas as pd
import pytest
from tidy_curves import condensed, experiment, known, rows

from l2l.suite.report.final import final_losses
from l2l.suite.report.formatting import measured
from l2l.suite.report.tables.contents import final_table, learning_rate_table
from l2l.suite.report.tables.formats import Cell, Table, latex, latex_text


@pytest.mark.parametrize(
    ("mean", "half_width", "text"),
    [
        (0.2451, 0.0123, "0.245 ± 0.012"),
        (0.2451, 0.00004, "0.24510 ± 0.00004"),
        (0.0, 0.0, "0 ± 0"),
        (3.2e-13, 1e-14, "3.20e-13 ± 1.0e-14"),
        (2.5e7, 1.2e5, "2.50e+07 ± 1.2e+05"),
        (float("nan"), 1.0, ""),
    ],
)
def test_means_have_as_many_digits_as_can_be_read(
    mean: float, half_width: float, text: str
) -> None:
    assert measured(mean, half_width) == text


def test_interval_that_begins_below_zero_is_told_as_it_is() -> None:
    """A loss of few instances, of which one is far above the others."""
    info = experiment(["ADAM", "NAG"])
    curves = [rows("ADAM", 0.2, instances=5), rows("NAG", 0.2, instances=5)]
    curves[0].loc[curves[0]["instance"] == 0, "loss"] *= 1000
    final = final_losses([info], *known(condensed(info, pd.concat(curves))))
    table = final_table([info], final, "final")
    skewed, usual = (table.rows[0][table.columns.index(name)].text for name in ("ADAM", "NAG"))
    assert "±" in usual
    mean, _, ends = skewed.partition(" ")
    assert float(mean) > 0 > float(ends.strip("[]").split(",")[0])


def test_caption_says_that_bold_prefers_optimizers_without_diverged_runs() -> None:
    info = experiment(["ADAM", "NAG"])
    for diverged, said in (([1, 2], True), ([], False)):
        curves = pd.concat([rows("ADAM", 0.1, diverged=diverged), rows("NAG", 0.2)])
        final = final_losses([info], *known(condensed(info, curves)))
        table = final_table([info], final, "final")
        bold = [name for name, cell in zip(table.columns, table.rows[0], strict=True) if cell.bold]
        assert bold == (["NAG"] if said else ["ADAM"])
        words = "is bold, if possible of an optimizer without diverged runs."
        assert (words in table.caption) == said


def test_learning_rates_at_an_end_of_the_widest_grid_are_noted() -> None:
    info = experiment(["ADAM", "NAG"])
    curves = [rows("ADAM", 0.2, learning_rate=1e-8), rows("NAG", 0.2, learning_rate=2e-8)]
    final = final_losses([info], *known(condensed(info, pd.concat(curves))))
    assert learning_rate_table(final, ("A note.",)).notes == (
        "A note.",
        "e p: ADAM: its best learning rate, 1e-08, is the lowest that is tried: is the sign of its "
        "update right?",
    )


def test_greek_needs_no_other_latex() -> None:
    assert latex_text("Δθ Σ Φ") == r"$\Delta$$\theta$ $\Sigma$ $\Phi$"
    greek = [chr(code) for code in range(ord("Α"), ord("ω") + 1) if chr(code).isalpha()]
    assert [letter for letter in greek if not latex_text(letter).isascii()] == list("ΪΫάέήίΰ")


def of_rows(count: int, text: str = "short") -> str:
    made = tuple((Cell(text), Cell(str(i), i)) for i in range(count))
    return latex(Table("t", "All of it.", ("a", "b"), made, pd.DataFrame(), ("A note.",)))


def test_tables_of_many_rows_may_break() -> None:
    assert of_rows(40).startswith("\\begin{table}\n")
    text = of_rows(41)
    assert "{table}" not in text
    assert text.startswith("\\begin{longtable}{lr}\n\\caption{All of it.}\n\\label{tab:t}\n\\\\\n")
    assert text.count("a & b") == 2, "once for the first page, once for the others"
    assert text.index("\\endfirsthead") < text.index("\\endhead") < text.index("short & 0")
    assert text.index("\\end{longtable}") < text.index("A note.")
    wide = of_rows(41, "long " * 10)
    assert wide.startswith("\\begin{xltabular}{\\textwidth}{Xr}\n")
    assert "\\end{xltabular}" in wide
