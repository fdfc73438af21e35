"""Colours that the report replaces, so that figures follow the page's light or dark theme."""

INK = "#1f2328"
BACKGROUND = "#fffffe"
