"""The report as one HTML file that needs no other, and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from l2l.suite.files.provenance import EARLIER
from l2l.suite.plan.definitions import ExperimentInfo
from l2l.suite.report.figures.draw import Shown
from l2l.suite.report.figures.svg import each_picture_once, inline_svg
from l2l.suite.report.formatting import counted
from l2l.suite.report.tables.contents import notices
from l2l.suite.report.tables.formats import Table, markdown, markdown_text

EARLIER_FACTS = ("commit", "created", "command")
VERDICTS = ("reproduced", "contradicted", "inconclusive", "unchecked")
TITLE = "Learning to learn by gradient descent by gradient descent"


@dataclass(frozen=True)
class PageContent:
    """What every page tells: of its experiments, and where their results come from."""

    experiments: Sequence[ExperimentInfo]
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class Content(PageContent):
    """All that a report shows; `finals` and `figures` go by experiment, in order.

    An experiment's own figure comes first, then those of pictures and single coordinates.
    """

    claims: Table
    checks: Table
    finals: Sequence[Table]
    intervals: Table
    rates: Table
    figures: Sequence[Sequence[Shown]]

    def verdicts(self) -> dict[str, dict[str, int]]:
        """How many claims of the paper, then own checks, have each verdict that any has."""
        found = {}
        for name, table in (("Claims of the paper", self.claims), ("Own checks", self.checks)):
            verdicts = list(table.data["verdict"])
            counts = {each: verdicts.count(each) for each in VERDICTS if each in verdicts}
            if counts:
                found[name] = counts
        return found


def html_page(content: Content) -> str:
    """The report as self-contained HTML; everything from outside is escaped."""
    sections = zip(content.experiments, content.figures, content.finals, strict=True)
    page = rendered(
        "report.html.j2",
        content,
        title=TITLE,
        byline=byline(content),
        sections=list(sections),
        inline_svg=inline_svg,
    )
    return each_picture_once(page)


def rendered(template: str, content: PageContent, **values: Any) -> str:
    """One of this folder's templates, filled; everything from outside is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        content=content,
        notices=notices(content.experiments),
        facts=provenance_facts(content.provenance),
        **values,
    )


def byline(content: Content) -> str:
    """Whose paper it is, and what of it was run, in a line."""
    claims, checks = len(content.claims.rows), len(content.checks.rows)
    experiments = counted(len(content.experiments), "experiment")
    parts = [
        "Andrychowicz et al., 2016",
        f"{counted(claims, 'claim')} of it",
        f"{counted(checks, 'own check')} in {experiments}",
        *profiles_told(content.experiments),
    ]
    return " · ".join(parts)


def profiles_told(experiments: Sequence[ExperimentInfo]) -> list[str]:
    """The part of a byline that says which profiles were run, if that is known."""
    profiles = dict.fromkeys(each.profile for each in experiments if each.profile)
    return [f"profile {' and '.join(profiles)}"] if profiles else []


def markdown_page(content: Content) -> str:
    """The report as Markdown; figures are links into the folder it lies in."""
    parts = [f"# Reproduction report: *{TITLE}*"]
    for name, counts in content.verdicts().items():
        told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
        parts.append(f"{name}: {told}.")
    parts += [f"> **Note.** {markdown_text(notice)}" for notice in notices(content.experiments)]
    parts += ["## Claims of the paper", markdown(content.claims)] if content.claims.rows else []
    parts += ["## Own checks", markdown(content.checks)] if content.checks.rows else []
    for experiment, (figure, *further), final in zip(
        content.experiments, content.figures, content.finals, strict=True
    ):
        parts.append(f"## {markdown_text(experiment.title)}")
        parts += [*_markdown_figure(figure, experiment.title), markdown(final)]
        parts += [part for each in further for part in _markdown_figure(each, each.name)]
    parts += ["## All final losses", markdown(content.intervals)]
    parts += ["## Learning rates", markdown(content.rates)]
    parts.append("## Settings")
    for experiment in content.experiments:
        indented = "\n".join(f"    {line}" for line in experiment.settings.splitlines())
        parts += [f"{markdown_text(experiment.name)}:", indented]
    parts.append("## Provenance")
    return markdown_of(parts, content.provenance)


def markdown_of(parts: Sequence[str], provenance: Mapping[str, Any]) -> str:
    """A page of `parts`, which ends with the provenance."""
    facts = [f"- {name}: {markdown_text(text)}" for name, text in provenance_facts(provenance)]
    paragraphs = [*filter(None, parts), "\n".join(facts)]
    return "\n\n".join(each.rstrip() for each in paragraphs) + "\n"


def _markdown_figure(figure: Shown, name: str) -> list[str]:
    """The figure, called `name` where it cannot be seen, and its caption."""
    if figure.failure:
        said = f"The figure {figure.name} could not be drawn: {figure.failure}"
        return [f"> **{markdown_text(said)}**", markdown_text(figure.caption)]
    image = f"![{markdown_text(name)}](figures/{figure.name}.png)"
    return [image, markdown_text(figure.caption)]


def provenance_facts(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Provenance as pairs of a name and a line of text."""
    facts = []
    for name, value in provenance.items():
        if name == "changed":
            continue
        if isinstance(value, Mapping):
            text = ", ".join(f"{key} {part}" for key, part in value.items())
        elif name == EARLIER:
            text = "; ".join(_earlier(each) for each in value)
        elif name == "commit" and value is None:
            text = "not run from a git checkout"
        else:
            text = str(value)
            if name == "commit" and provenance.get("changed"):
                text += ", with uncommitted changes"
        facts.append((name, text))
    return facts


def _earlier(provenance: Mapping[str, Any]) -> str:
    """One line on a run whose experiments are in the report beside the latest one's."""
    names = ", ".join(provenance.get("seeds", {}))
    facts = {name: text for name, text in provenance_facts(provenance) if name in EARLIER_FACTS}
    return f"{names}: " + ", ".join(f"{name} {text}" for name, text in facts.items())
