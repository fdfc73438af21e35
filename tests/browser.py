"""A page in a headless browser, asked by a script."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def ask(page: str, script: str, folder: Path, width: int = 1300) -> dict[str, Any]:
    """What `script` leaves in `say` when the page is open; nothing may be told on the console."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no Chromium is installed (looked for {', '.join(BROWSERS)})")
    answer = 'document.body.textContent = "PROBE" + btoa(encodeURIComponent(JSON.stringify(say)));'
    copy = folder / "page.html"
    copy.write_text(
        page.replace("</body>", f"<script>{{{script}{answer}}}</script></body>", 1),
        encoding="utf-8",
    )
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    flags += [f"--window-size={width},900", f"--user-data-dir={folder / 'profile'}"]
    done = subprocess.run(
        [browser, *flags, "--dump-dom", copy.as_uri()], capture_output=True, text=True, timeout=120
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    found = re.search(r"PROBE([A-Za-z0-9+/=]+)", done.stdout)
    assert found, done.stderr[-2000:]
    said: dict[str, Any] = json.loads(unquote(base64.b64decode(found[1]).decode()))
    return said
