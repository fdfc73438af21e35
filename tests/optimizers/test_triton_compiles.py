"""The GPU kernel becomes machine code for several generations of GPUs, without any of them."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton.backends.nvidia", reason="Triton for NVIDIA GPUs is not installed")

CAPABILITIES = ("80", "90")
PROGRAM = """
import itertools
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from l2l.optimizers.kernels import triton_cell, triton_lstm
from l2l.optimizers.kernels.shape import LSTMShape

block = {"B": triton_cell.BLOCK}
kernels = (
    (triton_lstm._forward, triton_lstm._sizes(LSTMShape(layers=1, hidden=4, inputs=1))),
    (triton_cell._forth, block | {"ABOVE": True}),
    (triton_cell._back, block | {"TOP": False}),
)
for capability, (kernel, constants) in itertools.product(map(int, sys.argv[1:]), kernels):
    kinds = {
        name: "constexpr"
        if name in constants
        else "i32" if name in ("n", "k", "hidden") or name.endswith("_row") else "*fp32"
        for name in kernel.arg_names
    }
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, kinds, constexprs=places)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32))
    print(capability, kernel.__name__, len(compiled.asm["cubin"]))
"""


def test_kernels_compile_to_machine_code(tmp_path: Path) -> None:
    # In the interpreter, which the other tests use, nothing is compiled.
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *CAPABILITIES],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    sizes = {tuple(words[:2]): int(words[2]) for words in map(str.split, done.stdout.splitlines())}
    assert sizes.keys() == set(itertools.product(CAPABILITIES, ("_forward", "_forth", "_back")))
    assert all(size > 1000 for size in sizes.values())
