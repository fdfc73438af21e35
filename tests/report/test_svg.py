"""A lean SVG shows what the full one shows."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from l2l.suite.report.figures.style import own_settings
from l2l.suite.report.figures.svg import TOLERANCE, each_picture_once, inline_svg, simplified, slim


def drawn(figure: Figure) -> str:
    buffer = io.BytesIO()
    with own_settings():
        figure.savefig(buffer, format="svg")
    return buffer.getvalue().decode()


def with_line(x: np.ndarray, y: np.ndarray) -> Figure:
    figure = Figure()
    figure.add_subplot(xlim=(x[0], x[-1])).plot(x, y, label="lr 0.00123456 & <b>")
    figure.legend()
    return figure


def points(path: str) -> np.ndarray:
    """Where a path of `slim` goes: a point and then steps."""
    start, steps = path.split("l")
    numbers = re.findall(r"-?(?:\d+\.?\d*|\.\d+)(?:e-?\d+)?", f"{start[1:]} {steps}")
    return np.cumsum(np.reshape([float(number) for number in numbers], (-1, 2)), axis=0)


def test_line_stays_where_it_was() -> None:
    x = np.linspace(0, 1, 500)
    svg = drawn(with_line(x, np.sin(9 * x) + 1e-3 * np.random.default_rng(0).normal(size=500)))
    paths = re.findall(r'<path d="(M [^"]*?)" clip-path', svg, flags=re.DOTALL)
    full = np.array(re.findall(r"[ML] (\S+) (\S+)", max(paths, key=len)), dtype=float)
    lean = points(max(re.findall(r' d="(M[^"z]*)" clip-path', slim(svg)), key=len))
    assert len(lean) < len(full)
    np.testing.assert_allclose(lean[[0, -1]], full[[0, -1]], atol=0.011)
    heights = np.interp(full[:, 0], lean[:, 0], lean[:, 1])
    assert np.abs(heights - full[:, 1]).max() < 0.2  # where it is steep; the line's width is 1.5
    assert len(slim(svg)) < 0.7 * len(svg)


def test_points_on_a_straight_line_go_and_corners_stay() -> None:
    x = np.arange(101.0)
    line = np.stack([100 * x, 50 * x], axis=1)
    assert len(simplified(line)) == 2
    line[40, 1] += 2 * TOLERANCE
    assert [40 * 100, 40 * 50 + 2 * TOLERANCE] in simplified(line).tolist()
    closed = np.array([[0, 0], [100, 0], [100, 100], [0, 100], [0, 0]], float)
    np.testing.assert_array_equal(simplified(closed), closed)


def test_text_is_as_it_was_and_nothing_refers_to_what_is_gone() -> None:
    svg = slim(drawn(with_line(np.arange(3.0), np.arange(3.0))))
    assert "lr 0.00123456 &amp; &lt;b&gt;" in svg
    assert "metadata" not in svg
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', svg))
    assert used == set(re.findall(r'\bid="([^"]+)"', svg))


def test_most_texts_inherit_their_font_and_others_keep_theirs() -> None:
    texts = "".join(f'<text style="font-family: {font}; fill: red">x</text>' for font in "aab")
    inline = inline_svg(slim(f'<svg xmlns="http://www.w3.org/2000/svg">{texts}</svg>'), "f", "name")
    head, *found = re.findall("<(?:svg|text)[^>]*>", inline)
    assert ' font-family="a"' in head
    assert [re.findall("font-family:([^;]*)", text) for text in found] == [[], [], ["b"]]


def test_marks_say_once_what_all_their_uses_look_like() -> None:
    def use(name: str, colour: str) -> str:
        return f'<use xlink:href="#{name}" x="1" style="fill: {colour}"/>'

    marks = '<path id="a" d="M 0 0" style="stroke: red"/><path id="b" d="M 0 0"/>'
    uses = [use("a", "red"), use("a", "red"), use("b", "red"), use("b", "blue")]
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    lean = slim(f"<svg {names}>{marks}{''.join(uses)}</svg>")
    assert re.findall(r'id="(.)"[^>]* style="([^"]*)"', lean) == [("a", "fill:red;stroke:red")]
    assert re.findall(r'href="#(.)" x="1"(?: style="fill:(\w+)")?', lean) == [
        ("a", ""),
        ("a", ""),
        ("b", "red"),
        ("b", "blue"),
    ]


def test_pictures_become_jpeg_and_stay_alike() -> None:
    figure = Figure()
    x = np.linspace(0, 255, 64)
    picture = np.stack([*np.meshgrid(x, x), np.full((64, 64), 99.0)], axis=2).astype(np.uint8)
    figure.add_subplot().imshow(picture, interpolation="none")
    (data,) = re.findall(r"data:image/jpeg;base64,([A-Za-z0-9+/=]+)", slim(drawn(figure)))
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)
    assert found.shape == picture.shape
    # Matplotlib may store it upside down, and turn it round.
    assert min(np.abs(found - each).mean() for each in (picture, picture[::-1])) < 3


def test_curves_keep_all_their_points() -> None:
    path = '<path d="M 0 0 \nC 1.23456 2 3 4 5 6 \nz"/>'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg">{path}</svg>'
    assert ' d="M 0 0 C 1.23 2 3 4 5 6 z"' in slim(svg)


def test_page_holds_each_picture_once() -> None:
    def shown(where: str, data: str) -> str:
        style = f'transform="matrix({where})" style="image-rendering:pixelated"'
        return f'<image xlink:href="data:{data}" width="64" height="64" {style} />'

    figures = [shown("1 2", "a"), shown("3 4", "b"), shown("5 6", "a")]
    page = f"<body><svg>{''.join(figures)}</svg></body></html>\n"
    lean = each_picture_once(page)
    used = re.findall(r'<use href="#(\S+)" transform="matrix\((.*?)\)" style="image-ren', lean)
    assert [where for _, where in used] == ["1 2", "3 4", "5 6"]
    defined = dict(re.findall(r'<image id="(\S+)" href="data:(.)" width="64" height="64"/>', lean))
    assert [defined[name] for name, _ in used] == ["a", "b", "a"] and len(defined) == 2
    assert lean.endswith("</body></html>\n")
    assert each_picture_once("<body>no picture</body>") == "<body>no picture</body>"
