"""Matplotlib's SVG in a third of its bytes, without a visible difference, and fit for HTML."""

from __future__ import annotations

import base64
import html
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from xml.etree import ElementTree

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

SVG, HREF = "http://www.w3.org/2000/svg", "{http://www.w3.org/1999/xlink}href"
# Hundredths of a point are finer than any screen, and a line may be off by five of them.
DECIMALS, TOLERANCE = 2, 5
QUALITY = 80  # of pictures
PICTURE = re.compile(r'<image xlink:href="(data:[^"]+)" (width="\S+" height="\S+")([^>]*)/>')
NUMBER = re.compile(r"-?\d+\.\d{3,}")
LINES = re.compile(r"(?:[ML] \S+ \S+\s*|z\s*)+")
FONT = re.compile(r"font-family: ([^;]+);")
# Colours that the page replaces, so that figures follow its light or dark theme.
INK = "#1f2328"
BACKGROUND = "#fffffe"
PIXELS_PER_POINT = 1.5  # at most: panels keep one size, however many a figure has
PNG = "data:image/png;base64,"

ElementTree.register_namespace("", SVG)
ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")


def slim(svg: str) -> str:
    """`svg` with lines of fewer points, numbers of fewer digits, pictures as JPEG.

    It is without metadata, names that nothing refers to, and groups that say nothing. The font that
    most texts have is named once, for them all to inherit, and so is what all ticks look like.
    """
    root = ElementTree.fromstring(svg)
    styles = " ".join(each.get("style", "") for each in root.iter())
    font = next((font for font, _ in Counter(FONT.findall(styles)).most_common(1)), "")
    used = set(re.findall(r'(?:url\(|xlink:href=")#([^")]+)', svg))
    for element in root.iter():
        values = element.attrib
        if values.get("id") not in used:
            values.pop("id", None)
        if values.get("transform", "").startswith(("rotate(-0 ", "rotate(0 ")):
            del values["transform"]
        for name, value in values.items():
            if name == "d":
                values[name] = _path(value)
            elif value.startswith(PNG):
                values[name] = _jpeg(value.removeprefix(PNG))
            else:
                values[name] = NUMBER.sub(_rounded, value)
            if name == "style":
                own = values[name].replace(f"font-family: {font};", "")
                values[name] = re.sub(r"(?<=[;:]) ", "", own)
    if font:
        root.set("font-family", font)
    _style_marks(root)
    _flatten(root)
    ElementTree.indent(root, "")
    return ElementTree.tostring(root, encoding="unicode") + "\n"


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
    font = re.search(r' font-family="[^"]+"', body[: body.index(">")])
    head = f'<svg viewBox="{view}" style="max-width: {width:.0f}px" role="img" aria-label="{name}"'
    head += f"{font[0] if font else ''}>"
    return Markup(head + body[body.index(">") + 1 :])


def each_picture_once(page: str) -> str:
    """An HTML page whose inline figures' pictures are in it once, at its end, and used by name."""
    names: dict[tuple[str, str], str] = {}

    def used(image: re.Match[str]) -> str:
        data, size, rest = image.groups()
        name = names.setdefault((data, size), f"picture-{len(names) + 1}")
        return f'<use href="#{name}"{rest}/>'

    body = PICTURE.sub(used, page)
    if not names:
        return page
    defined = "\n".join(
        f'<image id="{name}" href="{data}" {size}/>' for (data, size), name in names.items()
    )
    # Hidden by its size: what a browser does not display, it may not draw elsewhere either.
    hidden = f'<svg width="0" height="0" aria-hidden="true"><defs>\n{defined}\n</defs></svg>\n'
    before, end, after = body.rpartition("</body>")
    return before + hidden + end + after


def _style_marks(root: ElementTree.Element) -> None:
    """Give a mark the style that all its uses share, in their place."""
    marks = {f"#{name}": each for each in root.iter() if (name := each.get("id"))}
    uses: dict[str, list[ElementTree.Element]] = {}
    for each in root.iter(f"{{{SVG}}}use"):
        uses.setdefault(each.get(HREF, ""), []).append(each)
    for name, own in uses.items():
        style, *others = {each.get("style", "") for each in own}
        if name in marks and style and not others:
            # Its own style comes last: it counts where both say something.
            marks[name].set("style", f"{style};{marks[name].get('style', '')}".rstrip(";"))
            for each in own:
                del each.attrib["style"]


def _flatten(parent: ElementTree.Element) -> None:
    """Put what groups without attributes hold in their places, and drop the metadata."""
    parent[:] = list(_content(parent))
    for child in parent:
        _flatten(child)


def _content(parent: ElementTree.Element) -> Iterator[ElementTree.Element]:
    for child in parent:
        if child.tag == f"{{{SVG}}}g" and not child.attrib:
            yield from _content(child)
        elif child.tag != f"{{{SVG}}}metadata":
            yield child


def _path(path: str) -> str:
    """Straight lines with each point as the step from the one before it; curves as they are."""
    if not LINES.fullmatch(path):
        return " ".join(NUMBER.sub(_rounded, path).split())
    parts = []
    for line in re.findall(r"M[^Mz]*|z", path):
        if line == "z":
            parts.append("z")
            continue
        numbers = np.array(re.findall(r"[^\sML]+", line), dtype=float) * 10**DECIMALS
        points = simplified(numbers.round().reshape(-1, 2)).astype(int).tolist()
        steps = [(x1 - x0, y1 - y0) for (x0, y0), (x1, y1) in itertools.pairwise(points)]
        drawn = f"l{' '.join(_point(*step) for step in steps)}" if steps else ""
        parts.append(f"M{_point(*points[0])}{drawn}")
    # A sign begins a number, and so does a second point.
    return re.sub(r"(\.\d+) (?=\.)", r"\1", "".join(parts).replace(" -", "-"))


def simplified(points: NDArray[np.float64], tolerance: float = TOLERANCE) -> NDArray[np.float64]:
    """The fewest of `points` [n, 2] whose line passes all within `tolerance`, by halving it.

    This is the algorithm of Ramer, Douglas and Peucker. First and last points stay.
    """
    kept, parts = {0, len(points) - 1}, [(0, len(points) - 1)]
    while parts:
        first, last = parts.pop()
        if last - first < 2:
            continue
        start, along = points[first], points[last] - points[first]
        away = points[first + 1 : last] - start
        share = np.clip(away @ along / max(along @ along, 1e-9), 0, 1)
        distances = np.linalg.norm(away - share[:, None] * along, axis=1)
        if distances.max() > tolerance:
            farthest = first + 1 + int(distances.argmax())
            kept.add(farthest)
            parts += [(first, farthest), (farthest, last)]
    return points[sorted(kept)]


def _point(x: int, y: int) -> str:
    """Hundredths as decimal numbers, without a zero before the point."""
    return re.sub(r"(?<!\d)0\.", ".", f"{x / 10**DECIMALS:g} {y / 10**DECIMALS:g}")


def _rounded(number: re.Match[str]) -> str:
    return f"{round(float(number[0]), DECIMALS):g}"


def _jpeg(png: str) -> str:
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg_of(image)).decode()}"


def jpeg_of(image: Image.Image) -> bytes:
    """The picture as JPEG, in a third of the bytes of PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, subsampling=0, optimize=True)
    return buffer.getvalue()
