"""Mistakes in an optimizer, which would end in wrong numbers, are told while planning."""

from __future__ import annotations

import pytest
from own_file import HEAD, complaint, planned

UPDATE = "return -self.lr * grads + 0 * state, state + 1"
STATE = "return torch.zeros(n, spec.size)"
OPTIMIZER = f"""{HEAD}
@register_optimizer("mine", tune="lr")
@dataclass(frozen=True)
class Mine(Optimizer):
    lr: object

    def init(self, spec, n):
        {STATE}

    def update(self, grads, state, params):
        {UPDATE}
"""


pytestmark = pytest.mark.usefixtures("own_folder")


def test_a_right_optimizer_passes() -> None:
    planned(OPTIMIZER)


MIXED = "gives a run other updates alone than beside others"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        # Runs that do not stay apart.
        (UPDATE, "return -self.lr * grads + grads.mean(), state + 1", MIXED),
        (UPDATE, "return -self.lr * grads.cumsum(0), state + 1", MIXED),
        (UPDATE, "return -self.lr * grads.roll(1, 0), state + 1", MIXED),
        (UPDATE, "return -self.lr * grads + state, state + grads.mean(0)", MIXED),
        (UPDATE, "return -self.lr * grads / len(grads), state + 1", MIXED),
        # Shapes and types.
        (
            UPDATE,
            "return -self.lr * grads.sum(1), state",
            "gives float32 [2] where gradients [n, P] are float32 [2, 10]",
        ),
        (UPDATE, "return (-self.lr * grads)[:1], state", "gives float32 [1, 10] where"),
        (UPDATE, "return -self.lr * grads.double(), state", "gives float64 [2, 10] where"),
        (
            UPDATE,
            "return -self.lr * grads",
            "gives a Tensor, but must give the updates and the next state",
        ),
        (
            UPDATE,
            "return grads / 0, state",
            "gives updates that are not finite for finite gradients",
        ),
        # States.
        (UPDATE, "state += 1; return -self.lr * grads, state", "changes state in place"),
        (UPDATE, "return grads.mul_(-self.lr), state", "changes grads in place"),
        (
            UPDATE,
            "return -self.lr * grads, [state]",
            "Mine.update (mine.py, line N) gives a list in the state",
        ),
        (
            STATE,
            "return {'v': torch.zeros(n, spec.size)}",
            "Mine.init (mine.py, line N) gives a dict in the state",
        ),
        (STATE, "return torch.zeros(n, spec.size).numpy()", "gives a numpy.ndarray in the state"),
        (STATE, "return torch.randn(n, spec.size)", "gives another state when it is called again"),
        (
            UPDATE,
            "return -self.lr * grads + torch.randn_like(grads), state",
            "gives other updates when it is called again",
        ),
        (
            UPDATE,
            "self.__dict__['k'] = getattr(self, 'k', 0) + 1; return -self.k * grads, state",
            "belongs in the state",
        ),
        (
            UPDATE,
            "return -self.lr * grads * NET.bias.detach(), state",
            "depend on random numbers drawn while the file",
        ),
        (
            UPDATE,
            "return -self.lr * grads * KEPT.setdefault('x', torch.randn(())), state",
            "or kept from a call before: write them down as numbers",
        ),
        # Rates.
        (
            UPDATE,
            "return -float(self.lr) * grads, state",
            "raises, with lr as a tensor [n, 1], the rates of a sweep,",
        ),
        (
            UPDATE,
            "return -torch.as_tensor(self.lr).mean() * grads, state",
            "than with each row's own number",
        ),
        (
            'tune="lr"',
            'tune="rl"',
            "Mine in mine.py has no field 'rl', which is to be tuned: did you mean 'lr'?",
        ),
        # Exceptions of any kind.
        (
            UPDATE,
            "return 1 / 0",
            "Mine.update (mine.py, line N) raises ZeroDivisionError: division by zero (mine",
        ),
        (STATE, "return 1 / 0", "Mine.init (mine.py, line N) raises ZeroDivisionError"),
        ("@dataclass(frozen=True)", "", "Mine in mine.py must be a dataclass"),
        ("(Optimizer)", "", "Mine in mine.py must be a subclass of Optimizer"),
        # The iterate.
        (
            "grads, state, params",
            "grads, state",
            "Mine in mine.py has update(self, grads, state), but must have update(self, grads, "
            "state, params), where params.theta is the iterate [n, P]",
        ),
        ("grads, state, params", "grads, state, into=None", "has update(self, grads, state, into)"),
        (UPDATE, "params.theta.mul_(0.9); return -grads, state", "changes params.theta in place"),
        (
            UPDATE,
            "return -self.lr * grads, params.theta[:]",
            "Mine.update (mine.py, line N) keeps params.theta in the state, whose memory the next "
            "iterate takes: keep params.theta.clone()",
        ),
        (UPDATE, "return -self.lr * (grads + params.theta.mean(0)), state", MIXED),
        (
            UPDATE,
            f"{UPDATE}\n\n    def update_in_place(self, *given):\n        "
            "update, state = self.update(*given); return 2 * update, state",
            "Mine.update_in_place (mine.py, line N) gives other updates than update()",
        ),
    ],
)
def test_mistakes_in_an_optimizer_are_told(old: str, new: str, told: str) -> None:
    assert old in OPTIMIZER
    assert told in complaint(OPTIMIZER.replace(old, new, 1))


@pytest.mark.parametrize(
    ("state", "update"),
    [
        ("1", "return -self.lr * grads / state, state + 1"),
        ("None", "return -self.lr * grads, None"),
        (
            "(torch.zeros(n, spec.size), (1, None, 'text'))",
            "return -self.lr * grads + state[0], state",
        ),
        (
            "Kept(torch.zeros(n, spec.size), 1)",
            "return -self.lr * grads, Kept(grads, state.steps + 1)",
        ),
    ],
)
def test_any_immutable_state_will_do(state: str, update: str) -> None:
    kept = "@dataclass(frozen=True)\nclass Kept:\n    last: object\n    steps: int\n\n"
    text = OPTIMIZER.replace("@register_optimizer", f"{kept}@register_optimizer", 1)
    planned(text.replace(STATE, f"return {state}").replace(UPDATE, update))


def test_optimizer_for_a_certain_number_of_parameters_is_tried_with_it() -> None:
    """Others are tried with a few parameters instead of each problem's many."""
    times = "return -self.lr * grads * torch.ones({}), state"
    planned(OPTIMIZER.replace(UPDATE, times.format(10)))
    assert "raises RuntimeError: The size of tensor a" in complaint(
        OPTIMIZER.replace(UPDATE, times.format(9))
    )
