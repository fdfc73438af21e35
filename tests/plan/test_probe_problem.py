"""Mistakes in a problem, which would end in wrong numbers, are told while planning."""

from __future__ import annotations

import pytest
from own_file import HEAD, complaint, planned

import l2l.suite.plan.probe
from l2l.suite.core.errors import SuiteError
from l2l.suite.core.registry import problems
from l2l.suite.core.types import ParamSpec, Problem
from l2l.suite.plan.probe import probe_problem, untried
from l2l.suite.plan.probe_problem import check_problem
from l2l.suite.plan.resolved import problem_config

LOSS = 'return (params["x"] * instance["w"] * batch["x"]).square().sum()'
INIT = 'return {"x": rng.normal(2)}'
BATCH = 'return {"x": 255 * rng.uniform(2)}'
INSTANCE = 'return {"w": rng.normal(2)}'
PROBLEM = f"""{HEAD}
@register_problem("mine")
@dataclass(frozen=True)
class Mine(Problem):
    one_by_one = False

    def instance(self, rng):
        {INSTANCE}

    def init(self, rng):
        {INIT}

    def batch(self, rng):
        {BATCH}

    def loss(self, params, instance, batch):
        {LOSS}
"""


pytestmark = pytest.mark.usefixtures("own_folder")


def test_a_right_problem_passes() -> None:
    planned(PROBLEM)


RNG = "when it is called again with an equal rng: draw all randomness from the rng"
IMPORTED = "depends on random numbers drawn while the file was imported"
BY_HAND = """def losses(self, params, instance, batch):
        return (params["x"] * batch["x"]).square().sum(-1)

    def instance"""
BACKWARDS = """def batches(self, rngs, device):
        return {"x": torch.stack([self.batch(rng)["x"] for rng in rngs[::-1]])}

    def instance"""
WRONG_GRADIENT = """def losses_and_grads(self, params, instance, batch):
        scaled = params["x"] * instance["w"] * batch["x"]
        return scaled.square().sum(-1), {"x": -scaled}

    def instance"""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        # Randomness that is not the rng's.
        (
            INIT,
            'return {"x": torch.randn(2)}',
            f"Mine.init (mine.py, line N) gives another value at ['x'] {RNG}",
        ),
        (
            INIT,
            'return {"x": nn.Linear(2, 1).weight[0].detach()}',
            f"gives another value at ['x'] {RNG}",
        ),
        (
            INSTANCE,
            'return {"w": torch.tensor(np.random.rand(2))}',
            "Mine.instance (mine.py, line N) gives another value at ['w']",
        ),
        (
            BATCH,
            'return {"x": torch.full((2,), random.random())}',
            "Mine.batch (mine.py, line N) gives another value at ['x']",
        ),
        (
            INIT,
            'return {"x": NET.weight[0].detach().clone()}',
            f"Mine.init (mine.py, line N) gives a value at ['x'] that {IMPORTED}",
        ),
        (INIT, 'return {"x": FRESH.clone()}', f"gives a value at ['x'] that {IMPORTED}"),
        (
            LOSS,
            f"{LOSS} * NET.bias[0]",
            f"Mine.loss (mine.py, line N) gives a loss that {IMPORTED}",
        ),
        (
            INIT,
            'return {"x": KEPT.setdefault("x", torch.randn(2)).clone()}',
            f"gives a value at ['x'] that {IMPORTED}, or kept from a call before",
        ),
        (
            LOSS,
            f'{LOSS} * KEPT.setdefault("x", torch.randn(()))',
            f"Mine.loss (mine.py, line N) gives a loss that {IMPORTED}",
        ),
        (LOSS, f"{LOSS} * torch.rand(())", "with equal arguments: draw all randomness"),
        (
            LOSS,
            'return nn.functional.dropout(params["x"].repeat(99)).square().sum()',
            "such as dropout's",
        ),
        # Inputs that are not left alone.
        (
            LOSS,
            f'batch["x"].div_(255); {LOSS}',
            "Mine.loss (mine.py, line N) changes batch['x'] in place",
        ),
        (LOSS, f'instance["w"] += 1; {LOSS}', "changes instance['w'] in place"),
        (LOSS, f'params["x"].mul_(2); {LOSS}', "changes params['x'] in place"),
        # Shapes and types.
        (
            INIT,
            'return {"x": rng.normal(2).double()}',
            "gives 'x' in float64, but parameters must be float32",
        ),
        (
            INIT,
            'return {"x": rng.integers(3, 2)}',
            "gives 'x' in int64, but parameters must be float32",
        ),
        (INIT, 'return {"x": [0.0, 1.0]}', "gives a float at ['x'][0], but must give tensors"),
        (INIT, "return [rng.normal(2)]", "gives a list, but must give a dict of named tensors"),
        (INIT, "return {}", "gives no parameters"),
        (INIT, 'return {"x": rng.normal(0)}', "gives no parameters"),
        (
            INSTANCE,
            'return {"w": rng.normal(2), "mask": None}',
            "Mine.instance (mine.py, line N) gives None as 'mask': leave it out",
        ),
        (
            INIT,
            'return {"x": rng.normal(2 + rng.instance)}',
            "gives float32 [2] and float32 [3] at ['x'] for two",
        ),
        (
            INIT,
            'return {f"x{rng.instance}": rng.normal(2)}',
            "and nothing at ['x0'] for two instances",
        ),
        (INSTANCE, 'return {"w": 3.0}', "gives a float at ['w'], but must give tensors"),
        (
            BATCH,
            'return {"x": np.ones(2)}',
            "gives a numpy.ndarray at ['x'], but must give tensors",
        ),
        (BATCH, 'return {"x": rng.uniform(2).double()}', "gives float64, but must give float32"),
        (LOSS, f"{LOSS}[None]", "gives a tensor of shape [1], but must give a scalar"),
        (LOSS, "return 3.0", "gives a float, but must give a tensor"),
        (LOSS, f"{LOSS}.item()", "gives a float, but must give a tensor"),
        (
            LOSS,
            'return (params["x"].numpy() ** 2).sum()',
            "gives a numpy.float32, but must give a tensor",
        ),
        (
            LOSS,
            'return torch.tensor((params["x"].detach().numpy() ** 2).sum())',
            "does not depend on params",
        ),
        (LOSS, 'return params["x"].detach().square().sum()', "does not depend on params"),
        (LOSS, 'return batch["x"].sum()', "does not depend on params"),
        # Values.
        (LOSS, 'return params["x"].sum() / 0', "but must be finite there"),
        (
            LOSS,
            'return (0 * params["x"]).norm() + (0 * params["x"]).sum().sqrt()',
            "has a gradient that is not finite at θ_0",
        ),
        (
            LOSS,
            f"{LOSS} * 0",
            "Mine.loss (mine.py, line N) has gradient 0 at θ_0 for every instance that was tried; "
            "there is nothing to descend",
        ),
        # Side by side.
        (
            LOSS,
            'return params["x"].sum() if params["x"][0] > 0 else params["x"].square().sum()',
            "set `one_by_one = True`",
        ),
        (
            LOSS,
            'return params["x"].square().sum() * batch["x"][0].item()',
            "set `one_by_one = True`",
        ),
        ("def instance", BY_HAND, "Mine.losses (mine.py, line N) gives other losses side by side"),
        (
            "def instance",
            WRONG_GRADIENT,
            "Mine.losses_and_grads (mine.py, line N) is not used without `losses`: add it",
        ),
        (
            "def instance",
            f"one_by_one = True\n\n    {WRONG_GRADIENT}",
            "Mine.losses_and_grads (mine.py, line N) gives other gradients side by side",
        ),
        (
            "def instance",
            BACKWARDS,
            "Mine.batches (mine.py, line N) gives other minibatches at ['x'] than batch() of each",
        ),
        # Methods that are not there, or take something else.
        (
            "def init(",
            "def innit(",
            "Mine (mine.py, line N) needs init(self, rng): θ_0, a dict of tensors",
        ),
        (
            "def loss(",
            "def lose(",
            "Mine (mine.py, line N) needs loss(self, params, instance, batch): f(θ), a scalar",
        ),
        (
            "def loss(self, params, instance, batch)",
            "def loss(self, params, instance)",
            "Mine (mine.py, line N) has loss(self, params, instance), but must have loss(self, "
            "params, instance, batch)",
        ),
        (
            "def batch(self, rng)",
            "def batch(self)",
            "has batch(self), but must have batch(self, rng)",
        ),
        # Exceptions of any kind.
        (LOSS, "return 1 / 0", "raises ZeroDivisionError: division by zero (mine.py, line N)"),
        (
            INIT,
            "return undefined",
            "raises NameError: name 'undefined' is not defined (mine.py, line N)",
        ),
        (
            "def instance",
            "def group(self, name):\n        return 1 / 0\n\n    def instance",
            "Mine.group (mine.py, line N) raises Zero",
        ),
        (
            "def instance",
            "def group(self, name):\n        return 7\n\n    def instance",
            "gives an int for 'x', but must give text",
        ),
        (
            "def instance",
            "notice = property(lambda self: 1 / 0)\n\n    def instance",
            "Mine.notice raises Zero",
        ),
        (
            "def instance",
            "def notice(self):\n        return ''\n\n    def instance",
            "Mine.notice raises TypeError: it must be a property that gives text, not a method",
        ),
        (INIT, 'return {"x": rng.normal(2 / 1)}', "integer (mine.py, line N)"),
        ("one_by_one = False", "name: str = ''", "Mine in mine.py has a field 'name', by which"),
        (
            "def instance",
            "def __post_init__(self):\n        raise KeyError(3)\n\n    def instance",
            "Mine raises KeyError: 3 (mine.py, line N)",
        ),
        (
            "@dataclass(frozen=True)",
            "",
            "Mine in mine.py must be a dataclass: write @dataclass(frozen=True) above it",
        ),
        ("(Problem)", "", "Mine in mine.py must be a subclass of Problem"),
    ],
)
def test_mistakes_in_a_problem_are_told(old: str, new: str, told: str) -> None:
    assert old in PROBLEM
    assert told in complaint(PROBLEM.replace(old, new, 1))


def test_mistakes_in_a_problem_within_another_are_told() -> None:
    with pytest.raises(SuiteError, match=IMPORTED):
        planned(PROBLEM.replace(INIT, 'return {"x": FRESH.clone()}'))
    with pytest.raises(SuiteError, match=IMPORTED):
        problem_config({"name": "scaled", "spread": 1.0, "problem": {"name": "mine"}}, "my.yaml")


def test_name_that_is_no_text_is_told() -> None:
    with pytest.raises(SuiteError, match='3: write @register_problem\\("name"\\)'):
        planned(PROBLEM.replace('problem("mine")', "problem(3)"))


def test_methods_may_be_static() -> None:
    planned(PROBLEM.replace("    def batch(self, rng)", "    @staticmethod\n    def batch(rng)"))


def test_gradient_may_be_0_in_some_instances() -> None:
    planned(PROBLEM.replace(INSTANCE, 'return {"w": rng.normal(2) * (rng.instance > 1)}'))


MODULE = f"""{HEAD}
from l2l.problems.module import ModuleProblem

@register_problem("mine")
@dataclass(frozen=True)
class Mine(ModuleProblem):
    def module(self):
        return nn.Linear(2, 1)

    def batch(self, rng):
        return {{"x": rng.normal(5, 2), "y": rng.normal(5, 1).softmax(1)}}
"""
OWN_LOSS = """
    def module_loss(self, module, batch):
        return (module(batch["x"]) - batch["y"]).square().mean()
"""


def test_module_for_what_is_no_classes_needs_a_loss_of_its_own() -> None:
    assert complaint(MODULE).endswith(
        "to descend: for outputs that are not classes, define module_loss(self, module, batch)"
    )
    planned(MODULE + OWN_LOSS)
    assert complaint(MODULE + OWN_LOSS.replace(".mean()", ".mean() * 0")).endswith("to descend")


@pytest.mark.parametrize(
    "loss",
    [
        'return params["x"].sum() if params["x"][0] > 0 else params["x"].square().sum()',
        'return params["x"].square().sum() * batch["x"][0].item()',
        'return params["x"][params["x"] > -99].square().sum()',
        'return params["x"].square().sum() * float(batch["x"].numpy().max())',
    ],
)
def test_what_cannot_be_vectorised_may_be_computed_one_by_one(loss: str) -> None:
    text = PROBLEM.replace(LOSS, loss)
    assert "one_by_one = True" in complaint(text)
    planned(text.replace("one_by_one = False", "one_by_one = True"))


def test_an_equal_problem_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    planned(PROBLEM)
    calls: list[Problem] = []

    def counted(problem: Problem) -> ParamSpec:
        calls.append(problem)
        return check_problem(problem)

    monkeypatch.setattr(l2l.suite.plan.probe, "check_problem", counted)
    problem = problems.make({"name": "mine"})
    for spec, count in (({"name": "mine"}, 0), ({"name": "mine", "x": 1}, 1)):
        probe_problem(problem, spec, "here")
        assert len(calls) == count


def test_nothing_is_tried_for_plans_that_are_only_looked_at() -> None:
    """So the report of finished cells can be written again whatever a plugin has become."""
    with untried():
        planned(PROBLEM.replace(LOSS, "return 1 / 0"))
