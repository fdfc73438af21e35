"""Matplotlib's SVG made fit to stand inside an HTML page."""

from __future__ import annotations

import html
import re

from markupsafe import Markup

from l2l.suite.report.figures.colours import BACKGROUND, INK

PIXELS_PER_POINT = 1.5  # at most: panels keep one size, however many a figure has


def inline_svg(svg: str, prefix: str, label: str) -> Markup:
    """`svg` without its document header, described by `label`, in the page's own colours.

    Ids get `prefix`, because several figures share a page. Text and axes take the page's text
    colour and the background is transparent, so that one drawing serves light and dark.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", body)
    body = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{prefix}-\1"', body)
    body = body.replace(INK, "currentColor").replace(BACKGROUND, "transparent")
    size = re.search(r'viewBox="([^"]+)"', body)
    view = size[1] if size else "0 0 600 400"
    width = PIXELS_PER_POINT * float(view.split()[2])
    name = html.escape(label, quote=True)
    head = f'<svg viewBox="{view}" style="max-width: {width:.0f}px" role="img" aria-label="{name}">'
    return Markup(head + body[body.index(">") + 1 :])
