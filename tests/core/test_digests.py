"""What a definition's digest depends on: its code and what it imports, nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

import l2l.suite.core.imports
from l2l.suite.core.imports import PACKAGES, REPOSITORY, definition_files
from l2l.suite.core.syntax import code_digest

SOURCE = '''
"""A docstring."""
import torch  # a comment

@decorated(x=1, *a, **{"k": -1.5e-3})
class C(B, metaclass=M):
    """Another."""
    n: int = 10**3

    async def f(self, /, a, *args: int, b=None, **kwargs) -> "é\u2028":
        """And another."""
        async with a as b, c:
            yield f"{a!r:>{b}} {{}} {b=}" "text" f'{a["k"]:.2f}'
        return lambda: (x := [*a, {**b}, b"\\x00", ..., 1j, None, True])

match x:
    case {"a": [1, *rest], **others} if rest:
        del others[::2, 1:]
    case C(n=1) | None:
        pass
try:
    assert not a if b else c, "message"
except* (E, F) as e:
    raise e from None
'''
# Of the source above, by Python 3.11, 3.12 and 3.13.
DIGEST = "e124a234169dab9dc8f3bdd7e355d5a780dea72b67c6126cc5463db3f59d9f75"


def test_digest_is_the_same_in_every_python() -> None:
    assert code_digest(SOURCE.encode()) == DIGEST


OTHER = """
import json, runpy, sys
from pathlib import Path

code_digest = runpy.run_path("suite/core/syntax.py")["code_digest"]
print(json.dumps({name: code_digest(Path(name).read_bytes()) for name in sys.argv[1:]}))
"""


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_definitions_have_the_same_digests_in_another_python(version: str) -> None:
    python = shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "--version"], capture_output=True).returncode:
        pytest.skip(f"there is no Python {version}")
    found = [path for name in PACKAGES for path in (REPOSITORY / name).rglob("*.py")]
    files = {path.relative_to(REPOSITORY).as_posix(): path for path in found}
    told = subprocess.check_output([python, "-c", OTHER, *files], cwd=REPOSITORY, text=True)
    assert json.loads(told) == {
        name: code_digest(path.read_bytes()) for name, path in files.items()
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""A docstring."""', ""),
        ('"""And another."""', ""),
        ("# a comment", "# another"),
        ("x=1, *a", "x=1,\n    *a"),
        ('"text" ', '"te" "xt" '),
        ('f"{a!r', "f'{a!r"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(old: str, new: str) -> None:
    assert old in SOURCE
    text = SOURCE.replace(old, new, 1)
    if "f'{a!r" in new:
        text = text.replace('{b=}"', "{b=}'")
    assert code_digest(text.encode()) == DIGEST


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("10**3", "10**4"),
        ("10**3", "10.0**3"),
        ("None, True", "None, 1"),
        ("b=None", "b=0"),
        ("x=1", "y=1"),
        (":>{b}} ", ":<{b}} "),
        ("{b=}", "{b}"),
        ("a!r", "a!s"),
        (":.2f", ":.3f"),
        ("import torch", "import numpy"),
        ("rest], **others", "rest]"),
        ("async with", "with"),
        ("1j", "1"),
        ('b"\\x00"', '"\\x00"'),
        ("except*", "except"),
        ("from None", ""),
        ("-1.5e-3", "1.5e-3"),
    ],
)
def test_code_counts(old: str, new: str) -> None:
    assert old in SOURCE
    assert code_digest(SOURCE.replace(old, new).encode()) != DIGEST


def test_module_of_the_harness_that_a_name_is_from_does_not_count() -> None:
    plain = code_digest(b"from l2l import Rng")
    assert code_digest(b"from l2l.suite.core.seeds import Rng") == plain
    for other in ("l2l import Problem", "l2l import Rng as R", ".l2l.suite.core import Rng"):
        assert code_digest(f"from {other}".encode()) != plain
    assert code_digest(b"from l2l.suited.core import Rng") != plain


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_definition_leads_to_what_it_imports_from_beside_it(tmp_path: Path) -> None:
    write(
        tmp_path / "here",
        {
            "mine.py": "import numpy, l2l.suite.core.types, absolute\nfrom . import sibling\n"
            "from .package.deep import thing\ndef f():\n    import within",
            "absolute.py": "import l2l.problems.mlp, problems.own",
            "sibling.py": "from .package import *\nfrom ..outside import x",
            "package/__init__.py": "from ..further import y",
            "package/deep.py": "import mine",
            "further.py": "",
            "within.py": "",
            "unused.py": "",
            "numpy.py": "",
            "l2l/suite/core/types.py": "",
            "problems/own.py": "",
        },
    )
    write(tmp_path, {"outside.py": ""})
    found = definition_files(tmp_path / "here" / "mine.py")
    own = {name for name, path in found.items() if path.is_relative_to(tmp_path)}
    assert own == {
        *("mine.py", "absolute.py", "sibling.py", "further.py", "within.py", "numpy.py"),
        *("package/__init__.py", "package/deep.py", "./problems/own.py"),
    }
    assert {"problems/mlp.py", "problems/datasets.py"} <= set(found)


def test_definition_in_the_repository_leads_to_problems_and_optimizers_only() -> None:
    found = definition_files(REPOSITORY / "optimizers" / "learned" / "lstm.py")
    assert "optimizers/learned/base.py" in found
    assert not any(name.startswith(("optimizers/kernels", "suite")) for name in found)
    found = definition_files(REPOSITORY / "problems" / "convnet.py")
    assert "problems/image_tensors.py" in found
    assert not any(name.startswith(("problems/kernels", "suite")) for name in found)


def test_plugin_in_the_repositorys_folder_leads_to_what_is_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(l2l.suite.core.imports, "REPOSITORY", tmp_path)
    files = {
        "mine.py": "import helper, l2l.suite.core.types, l2l.problems.mlp",
        "helper.py": "import tests",
    }
    write(tmp_path, {**files, "suite/core/types.py": "", "problems/mlp.py": "import helper"})
    assert set(definition_files(tmp_path / "mine.py")) == {*files, "problems/mlp.py"}
