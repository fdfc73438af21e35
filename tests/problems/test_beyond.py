"""Problems beyond the paper's: gradients, layers as PyTorch has them, and how they start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from example_problems import InDouble
from torch import Tensor, nn

from l2l import Problem, Rng, Tensors
from l2l.problems.autoencoder import Autoencoder
from l2l.problems.bundled import ALPHABET, table, text
from l2l.problems.characters import CharRNN, CharTransformer
from l2l.problems.dense import Dense
from l2l.problems.factorisation import MatrixFactorisation
from l2l.problems.layers import batch_normalised, layer_normalised, norm
from l2l.problems.relu_convnet import ReluConvNet, _convolved
from l2l.suite.core.registry import problems
from l2l.suite.inner.objective import Objective, param_spec

SMALL: list[Any] = [
    Dense("breast-cancer", layers=0, batch_size=5),
    Dense("diabetes", layers=1, units=3, activation="sigmoid", batch_size=5),
    Dense("wine", layers=2, units=4, activation="gelu", norm="layer", batch_size=5),
    Dense("digits", layers=4, units=3, activation="tanh", norm="batch", batch_size=5),
    Autoencoder(widths=(5, 2), batch_size=4),
    ReluConvNet(channels=(2, 3), batch_size=3),
    CharRNN(units=3, passages=2, length=4),
    CharTransformer(blocks=2, units=4, passages=2, length=4),
    MatrixFactorisation(rows=5, rank=2),
]


def draws(problem: Problem, instance: int = 0) -> tuple[Tensors, Tensors, Any]:
    streams = ("test/init", "test/instance", "test/batch")
    methods = (problem.init, problem.instance, problem.batch)
    params, fixed, batch = (
        draw(Rng(1, stream, instance)) for draw, stream in zip(methods, streams, strict=True)
    )
    return params, fixed, batch


@pytest.mark.parametrize("problem", SMALL, ids=lambda p: type(p).__name__)
def test_gradients_are_differences_of_losses(problem: Problem, doubles: None) -> None:
    objective = Objective(InDouble(problem), range(2), "test", 1)
    theta = objective.start() + 0.1 * Rng(1, "elsewhere").normal(2, objective.spec.size).double()
    _, grads = objective.value_and_grad(theta, 3)
    for row in range(3):
        direction = Rng(1, "direction", row).normal(*theta.shape).double()
        ahead, behind = (objective.value(theta + step * direction, 3) for step in (1e-6, -1e-6))
        slope = (grads * direction).sum(1)
        # ReLU has kinks, which a difference may meet in one of thousands of steps.
        torch.testing.assert_close((ahead - behind) / 2e-6, slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("problem", SMALL, ids=lambda p: type(p).__name__)
def test_second_derivatives_are_differences_of_gradients(problem: Problem, doubles: None) -> None:
    """The meta-gradient of second order needs them."""
    objective = Objective(InDouble(problem), range(2), "test", 1)
    theta = objective.start() + 0.1 * Rng(1, "elsewhere").normal(2, objective.spec.size).double()
    direction = Rng(1, "direction").normal(*theta.shape).double()
    leaf = theta.clone().requires_grad_()
    _, grads = objective.value_and_grad(leaf, 3)
    (curved,) = torch.autograd.grad((grads * direction).sum(), leaf)
    ahead, behind = (
        objective.value_and_grad(theta + step * direction, 3)[1] for step in (1e-5, -1e-5)
    )
    torch.testing.assert_close((ahead - behind) / 2e-5, curved, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("problem", SMALL, ids=lambda p: type(p).__name__)
def test_many_runs_side_by_side_are_what_each_is_alone(problem: Problem) -> None:
    together = Objective(problem, range(3), "test", 1, copies=2)
    theta = together.start() + 0.1 * Rng(1, "elsewhere").normal(6, together.spec.size)
    losses, grads = together.value_and_grad(theta, 2)
    held_out = together.held_out(theta)
    for copy in range(2):
        for instance in range(3):
            row = 3 * copy + instance
            alone = Objective(problem, [instance], "test", 1)
            loss, grad = alone.value_and_grad(theta[row : row + 1], 2)
            torch.testing.assert_close(losses[row], loss[0])
            torch.testing.assert_close(grads[row], grad[0], rtol=1e-4, atol=1e-6)
            assert torch.equal(held_out[row], alone.held_out(theta[row : row + 1])[0])


@pytest.mark.parametrize("problem", SMALL, ids=lambda p: type(p).__name__)
def test_held_out_loss_is_of_other_data(problem: Problem) -> None:
    params, fixed, _ = draws(problem)
    losses = {
        problem.loss(params, fixed, problem.held_out(Rng(1, "test/instance", 0))).item()
        for _ in range(2)
    }
    assert len(losses) == 1, "it is the same at each call"
    minibatch = problem.loss(params, fixed, problem.batch(Rng(1, "test/batch")))
    assert losses != {minibatch.item()}


def test_a_network_is_what_pytorchs_layers_make_of_its_parameters() -> None:
    problem = Dense("digits", layers=2, units=6, activation="tanh", norm="batch", batch_size=9)
    params, _, batch = draws(problem)
    params = {name: value + 0.1 * torch.rand(value.shape) for name, value in params.items()}
    x = batch["x"]
    for layer in range(2):
        x = F.linear(x, params[f"hidden{layer}_weight"].T, params[f"hidden{layer}_bias"])
        scale = (params[f"hidden{layer}_factor"], params[f"hidden{layer}_offset"])
        x = torch.tanh(F.batch_norm(x, None, None, *scale, training=True))
    logits = F.linear(x, params["out_weight"].T, params["out_bias"])
    expected = F.cross_entropy(logits, batch["y"].argmax(1))
    torch.testing.assert_close(problem.loss(params, {}, batch), expected)


def test_least_squares_on_numbers() -> None:
    problem = Dense("diabetes", layers=0)
    params, _, batch = draws(problem)
    apart = batch["x"] @ params["out_weight"] + params["out_bias"] - batch["y"]
    torch.testing.assert_close(problem.loss(params, {}, batch), apart.square().mean())


def test_normalisations() -> None:
    params = {name: value + torch.rand(3) for name, value in norm("a", 3).items()}
    x = torch.randn(7, 3)
    scale = (params["a_factor"], params["a_offset"])
    torch.testing.assert_close(layer_normalised(params, "a", x), F.layer_norm(x, (3,), *scale))
    expected = F.batch_norm(x, None, None, *scale, training=True)
    torch.testing.assert_close(batch_normalised(params, "a", x), expected)


def test_convolutions_are_pytorchs() -> None:
    weight, bias, x = torch.randn(2 * 9, 5), torch.randn(5), torch.randn(4, 2, 8, 8)
    found = _convolved({"a_weight": weight, "a_bias": bias}, "a", x)
    expected = F.conv2d(x, weight.T.view(5, 2, 3, 3), bias, stride=2, padding=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_recurrent_network_is_pytorchs_gru() -> None:
    problem = CharRNN(units=4, passages=3, length=5)
    params, _, batch = draws(problem)
    layer = nn.GRU(len(ALPHABET), 4, batch_first=True)
    mine = ("input_weight", "state_weight", "input_bias", "state_bias")
    layer.load_state_dict(
        {name: params[own].t() for name, own in zip(layer.state_dict(), mine, strict=True)}
    )
    hidden, _ = layer(F.one_hot(batch[:, :-1], len(ALPHABET)).float())
    logits = hidden @ params["out_weight"] + params["out_bias"]
    expected = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
    torch.testing.assert_close(problem.loss(params, {}, batch), expected)


def test_transformer_is_pytorchs_layer() -> None:
    problem = CharTransformer(units=8, heads=2, passages=3, length=5)
    params, _, batch = draws(problem)
    params = {name: value + 0.3 * torch.rand(value.shape) for name, value in params.items()}
    layer = nn.TransformerEncoderLayer(
        8, 2, 32, dropout=0, activation="gelu", batch_first=True, norm_first=True
    )
    renamed = {
        "self_attn.in_proj_": "attention0_",
        "self_attn.out_proj.": "attended0_",
        "linear1.": "hidden0_",
        "linear2.": "back0_",
        "norm1.": "before_attention0_",
        "norm2.": "before_hidden0_",
    }
    state = {}
    for name in layer.state_dict():
        (old,) = (each for each in renamed if name.startswith(each))
        kind = name.removeprefix(old)
        if "norm" in old:
            kind = {"weight": "factor", "bias": "offset"}[kind]
        state[name] = params[renamed[old] + kind].t()
    layer.load_state_dict(state)
    x = F.one_hot(batch[:, :-1], len(ALPHABET)).float() @ params["embedding"] + params["place"]
    x = layer(x, src_mask=nn.Transformer.generate_square_subsequent_mask(5), is_causal=True)
    x = F.layer_norm(x, (8,), params["last_factor"], params["last_offset"])
    logits = x @ params["out_weight"] + params["out_bias"]
    expected = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
    torch.testing.assert_close(problem.loss(params, {}, batch), expected)


@pytest.mark.parametrize("problem", [CharRNN(units=4, length=6), CharTransformer(length=6)])
def test_no_prediction_sees_what_comes_after(problem: Any) -> None:
    params, _, batch = draws(problem)
    symbols = F.one_hot(batch[:, :-1], len(ALPHABET)).float()
    other = symbols.clone()
    other[:, 3:] = other[:, 3:].flip(-1)
    before, after = (problem.predictions(params, each) for each in (symbols, other))
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3:], after[:, 3:])


def test_each_held_out_character_is_predicted_once() -> None:
    passages = CharRNN(length=24).held_out(Rng(0, "test/instance"))
    predicted = passages[:, 1:].flatten()
    assert torch.equal(predicted, text(train=False)[1 : len(predicted) + 1])
    assert len(text(train=False)) - len(predicted) <= 24


def test_known_and_held_out_elements_make_up_the_matrix() -> None:
    problem = MatrixFactorisation()
    rng = (1, "test/instance", 4)
    known, held_out = problem.instance(Rng(*rng))["known"], problem.held_out(Rng(*rng))
    assert torch.equal(known + held_out, torch.ones(100, 64))
    assert held_out.mean() == pytest.approx(0.1, abs=0.02)


def test_weights_start_with_the_variance_that_keeps_signals() -> None:
    def deviation(params: Tensors, name: str) -> float:
        return float(params[f"{name}_weight"].std())

    relu = Dense("digits", layers=2, units=256).init(Rng(0, "test/init"))
    assert deviation(relu, "hidden0") == pytest.approx((2 / 64) ** 0.5, rel=0.05)
    assert deviation(relu, "hidden1") == pytest.approx((2 / 256) ** 0.5, rel=0.05)
    assert deviation(relu, "out") == pytest.approx((2 / 266) ** 0.5, rel=0.05)
    tanh = Dense("digits", units=256, activation="tanh").init(Rng(0, "test/init"))
    assert deviation(tanh, "hidden0") == pytest.approx((2 / 320) ** 0.5, rel=0.05)
    assert not relu["hidden0_bias"].any()
    convnet = ReluConvNet(channels=(64, 64)).init(Rng(0, "test/init"))
    assert deviation(convnet, "conv1") == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)


def test_code_of_the_autoencoder_is_linear_and_narrow() -> None:
    problem = Autoencoder()
    params, _, batch = draws(problem)
    widths = [params[f"layer{i}_weight"].shape[1] for i in range(4)]
    assert widths == [32, 8, 32, 64]
    x: Tensor = batch["x"]
    for layer, last in enumerate((torch.tanh, lambda z: z, torch.tanh, lambda z: z)):
        x = last(x @ params[f"layer{layer}_weight"] + params[f"layer{layer}_bias"])
    expected = (x - batch["x"]).square().mean()
    torch.testing.assert_close(problem.loss(params, {}, batch), expected)
    assert torch.equal(batch["x"], batch["y"])
    assert len(problem.held_out(Rng(0, "a"))["x"]) == len(table("digits", train=False).inputs)


def test_docs_list_every_problem_with_its_parameters() -> None:
    page = Path(__file__).parents[2] / "docs" / "problems.md"
    rows: dict[str, str] = {}
    for line in page.read_text().splitlines():
        if line.startswith("|"):
            rows.setdefault(line.split("|")[1].strip(), line)  # the first table's
    for name in problems:
        cls = problems.cls(name)
        if cls.__module__.startswith("l2l.problems.") and name != "scaled":  # which has another's
            row = rows[f"`{name}`"]
            # Without data of CIFAR-10 and photos, which tests do not have.
            if name not in ("convnet", "neural-art"):
                assert f"{param_spec(problems.make({'name': name})).size:,}" in row, name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dense(layers=-1), "layers must be at least 0"),
        (lambda: Dense(norm="batch", batch_size=1), "needs a batch_size of at least 2"),
        (lambda: Autoencoder(widths=()), "widths must be at least one"),
        (lambda: ReluConvNet(channels=(0,)), "channels must be at least one"),
        (lambda: CharRNN(length=5000), "length must be below 4096"),
        (lambda: CharTransformer(units=6, heads=4), "a multiple of heads 4"),
        (lambda: MatrixFactorisation(hidden=1.0), "hidden must be between 0 and 1"),
    ],
)
def test_settings_that_make_no_problem_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
