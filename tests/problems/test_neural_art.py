"""Neural art: its terms by formula, where its pictures and weights come from, what is missing."""

import math
import shutil

import pytest
import torch
from data_files import PHOTOS, forget_data, vgg_state, write_photos, write_styles, write_weights
from PIL import Image

from l2l.problems import feature_networks, neural_art, pictures
from l2l.problems.data_root import DATA_ROOT, SAMPLES
from l2l.problems.feature_networks import feature_network, read_network
from l2l.problems.neural_art import NeuralArt
from l2l.suite.core.errors import DataMissing, SuiteError
from l2l.suite.core.registry import optimizers
from l2l.suite.core.seeds import Rng
from l2l.suite.inner.loop import descend
from l2l.suite.inner.objective import Objective

LAYERS = {"content_layer": "relu1_2", "style_layers": ("relu1_1", "relu2_1")}


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """A data root of its own, empty, with nothing remembered of others."""
    monkeypatch.setenv(DATA_ROOT, str(tmp_path))
    forget_data()
    yield tmp_path
    forget_data()


@pytest.fixture
def problem(root):
    """A small problem on made-up pictures and weights."""
    write_weights(root)
    write_photos(root)
    write_styles(root)
    return NeuralArt(size=16, style="waves", **LAYERS)


def test_loss_is_the_sum_of_its_terms_as_the_formulas_say(problem):
    instance = problem.instance(Rng(0, "train/instance", 3))
    image = problem.init(Rng(0, "train/init", 3))["image"]
    network = feature_network("vgg19")
    layers = ("relu1_1", "relu1_2", "relu2_1")
    photo = neural_art.to_theta(pictures.photo("train", 3, 16))
    painting = neural_art.to_theta(pictures.style("waves", 16))
    ours, content, style = (network(each, layers) for each in (image, photo, painting))

    def gram(features):
        channels, height, width = features.shape
        total = torch.zeros(channels, channels)
        for i in range(channels):
            for j in range(channels):
                total[i, j] = (features[i] * features[j]).sum() / (height * width)
        return total

    def relative(a, b):
        return ((a - b) ** 2).sum() / (b**2).sum()

    variation = 0.0
    for difference in (image[:, :, 1:] - image[:, :, :-1], image[:, 1:, :] - image[:, :-1, :]):
        variation += (difference**2).sum() / (3 * 16 * 15)
    styles = [relative(gram(ours[name]), gram(style[name])) for name in problem.style_layers]
    expected = (
        problem.alpha * relative(ours["relu1_2"], content["relu1_2"])
        + problem.beta * sum(styles) / 2
        + problem.gamma * variation
    )
    torch.testing.assert_close(problem.loss({"image": image}, instance, None), expected)


def test_photo_itself_has_no_content_loss_and_painting_no_style_loss(problem):
    rng = Rng(0, "train/instance", 1)
    instance = problem.instance(rng)
    sources = problem.sources(rng)
    for name, weights in (("content", {"beta": 0.0}), ("style", {"alpha": 0.0})):
        only = NeuralArt(size=16, style="waves", gamma=0.0, **weights, **LAYERS)
        image = neural_art.to_theta(sources[name])
        assert only.loss({"image": image}, instance, None) < 1e-10


def test_gradient_agrees_with_finite_differences(problem):
    objective = Objective(problem, [0, 1], "train", 0)
    theta = objective.start().double()
    objective._fixed = {name: value.double() for name, value in objective._fixed.items()}
    _, grads = objective.value_and_grad(theta, 0)
    direction = torch.randn(theta.shape, dtype=theta.dtype, generator=torch.manual_seed(1))
    above, below = (objective.value(theta + h * direction, 0) for h in (1e-6, -1e-6))
    torch.testing.assert_close(
        (above - below) / 2e-6, (grads * direction).sum(1), rtol=1e-5, atol=1e-7
    )


def test_descent_goes_from_noise_towards_photo_and_painting(problem):
    objective = Objective(problem, [0], "test", 0)
    losses = [
        float(point.loss)
        for point in descend(objective, optimizers.make({"name": "adam", "lr": 0.1}), 40)
    ]
    assert losses[-1] < losses[0] / 3


def test_each_split_has_its_own_photos_and_goes_through_all_of_them(problem):
    shades = {
        split: [int(pictures.photo(split, number, 16)[0, 0, 0]) for number in range(2 * count)]
        for split, count in zip(pictures.FOLDERS, PHOTOS.values(), strict=True)
    }
    for place, (split, count) in enumerate(zip(pictures.FOLDERS, PHOTOS.values(), strict=True)):
        all_of_them = sorted(80 * place + 10 * number for number in range(count))
        assert sorted(shades[split][:count]) == all_of_them
        assert shades[split][count:] == shades[split][:count]


def test_tuning_and_evaluation_see_photos_of_their_own(problem):
    for split, folder in pictures.FOLDERS.items():
        photo = pictures.photo(split, 2, 16)
        objective = Objective(problem, [2], split, 0)
        expected = feature_network("vgg19")(neural_art.to_theta(photo), ["relu1_2"])["relu1_2"]
        torch.testing.assert_close(objective._fixed["content"][0], expected)
        assert torch.equal(problem.sources(objective.rng("instance", 2))["content"], photo), folder


def test_photos_keep_their_middle_square(root):
    (root / "photos" / "train").mkdir(parents=True)
    wide = Image.new("RGB", (60, 20), (255, 0, 0))
    wide.paste((0, 0, 255), (20, 0, 40, 20))
    wide.save(root / "photos" / "train" / "a.png")
    shades = pictures.photo("train", 0, 16).flatten(1).float().mean(1)
    torch.testing.assert_close(shades, torch.tensor([0.0, 0.0, 255.0]), rtol=0, atol=2)


def test_pixels_survive_the_way_to_theta_and_back():
    pixels = torch.arange(256).repeat(3, 1).view(3, 16, 16).to(torch.uint8)
    assert torch.equal(neural_art.to_pixels(neural_art.to_theta(pixels)), pixels)
    assert neural_art.to_pixels(torch.full((3, 16, 16), 1e9)).eq(255).all()


def test_without_data_the_projects_samples_serve_and_say_so(root):
    notice = NeuralArt().notice
    for sample in ("crops of 6 photos", "shipwreck_of_the_minotaur", "half precision"):
        assert sample in notice
    objective = Objective(NeuralArt(), [0, 1], "test", 0)
    loss, grads = objective.value_and_grad(objective.start(), 0)
    assert loss.isfinite().all() and (grads.abs().sum(1) > 0).all()


def test_crops_are_of_other_photos_in_each_split_and_all_different(root):
    crops = {
        split: torch.stack([pictures.photo(split, i, 16) for i in range(count)])
        for split, count in pictures.CROPS.items()
    }
    for split, found in crops.items():
        assert len(found.flatten(1).unique(dim=0)) == pictures.CROPS[split]
        assert torch.equal(pictures.photo(split, len(found), 16), found[0])
    names = [{path.name for path in (SAMPLES / "photos" / f).iterdir()} for f in PHOTOS]
    assert len(set.union(*names)) == sum(map(len, names)) == 6


@pytest.mark.parametrize("name", ["shipwreck_of_the_minotaur", "the_scream"])
def test_paintings_of_figure_8_are_there_and_give_way_to_the_users(root, name):
    ours = pictures.style(name, 16)
    forget_data()
    write_styles(root, [name])
    assert not torch.equal(pictures.style(name, 16), ours)


def test_users_photos_paintings_and_weights_are_replaced_one_by_one(root):
    write_styles(root)
    assert "crops" in NeuralArt(size=16).notice
    assert "shipwreck" in NeuralArt(size=16).notice
    assert "waves" not in NeuralArt(size=16, style="waves").notice
    write_weights(root, state=vgg_state({0: (3, 4), 2: (4, 4), 5: (4, 4), 7: (4, 4), 10: (4, 4)}))
    forget_data()
    assert "half precision" not in NeuralArt(size=16).notice


def test_half_precision_of_the_weights_is_that_of_their_file(root):
    """In float32 they are what half precision makes of them, so losses are no noisier than that."""
    weights = feature_network("vgg19")._weights
    assert {value.dtype for value in weights.values()} == {torch.float32}
    filters = weights["features.16.weight"]
    assert filters.shape == (256, 256, 3, 3)
    assert torch.equal(filters.half().float(), filters)


def test_complete_data_needs_no_notice(problem):
    assert problem.notice == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"style": "wave"}, r"no style 'wave' in .*styles.*waves"),
        ({"content_layer": "relu1_3"}, r"no layer 'relu1_3'.*relu1_2"),
        ({"network": "vgg20"}, r"no weights 'vgg20'.*vgg19"),
    ],
)
def test_names_that_are_not_there_are_missing_data_said_with_the_nearest(problem, change, said):
    with pytest.raises(DataMissing, match=said):
        _ = NeuralArt(**{"size": 16, "style": "waves", **LAYERS, **change}).notice


@pytest.mark.parametrize("split", PHOTOS)
def test_split_without_photos_is_missing_data_found_before_the_work_starts(problem, root, split):
    shutil.rmtree(root / "photos" / split)
    with pytest.raises(DataMissing, match=rf"no pictures in .*{split}.*JPEG or PNG"):
        _ = problem.notice


def test_file_that_is_no_picture_is_said(root):
    write_photos(root)
    write_styles(root)
    (root / "photos" / "test" / "0.png").write_text("not a picture")
    with pytest.raises(SuiteError, match=r"0\.png cannot be read as a picture"):
        for number in range(PHOTOS["test"]):
            pictures.photo("test", number, 16)


@pytest.mark.parametrize("content", [b"", b"not weights", b"cbuiltins\nprint\n(S'unpickled'\ntR."])
def test_damaged_weights_are_refused_in_one_sentence(root, content, capsys):
    (root / "weights").mkdir()
    (root / "weights" / "vgg19.pth").write_bytes(content)
    with pytest.raises(SuiteError, match=r"vgg19\.pth cannot be read as weights") as error:
        feature_network("vgg19")
    assert "\n" not in str(error.value)
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "state",
    [[1], {"other": torch.zeros(1)}, {**vgg_state(), "features.5.weight": torch.zeros(6, 7, 3, 3)}],
)
def test_weights_of_something_else_are_refused(root, state):
    write_weights(root, state=state)
    with pytest.raises(SuiteError, match=r"cannot be read as weights of a VGG or SqueezeNet"):
        feature_network("vgg19")


def test_architecture_of_vgg_is_read_off_its_keys(root):
    write_weights(root)
    layers = [layer.name for layer in feature_network("vgg19").layers]
    assert layers == ["relu1_1", "relu1_2", "pool1", "relu2_1"]


def test_architecture_of_squeezenet_is_read_off_its_keys(root):
    def conv(name, inputs, outputs, side):
        return {
            f"features.{name}.weight": torch.randn(outputs, inputs, side, side),
            f"features.{name}.bias": torch.zeros(outputs),
        }

    state = conv("0", 3, 4, 3)
    for place, inputs in ((3, 4), (4, 6)):
        state |= conv(f"{place}.squeeze", inputs, 2, 1)
        state |= conv(f"{place}.expand1x1", 2, 3, 1) | conv(f"{place}.expand3x3", 2, 3, 3)
    write_weights(root, "squeezenet1_1.pth", state)
    network = feature_network("squeezenet1_1")
    assert [each.name for each in network.layers] == ["relu1_1", "pool1", "relu2_1", "relu2_2"]
    assert network(torch.zeros(3, 33, 33), ["relu2_2"])["relu2_2"].shape == (6, 8, 8)


def test_torchvisions_files_take_torchvisions_inputs(root):
    """The same filters see the same image, once in grey levels and once in deviations."""
    state = vgg_state()
    write_weights(root, "vgg19-of-mine.pth", state)
    deviation = 255 * torch.tensor(feature_networks.TORCHVISION_STD).view(1, 3, 1, 1)
    rescaled = {**state, "features.0.weight": state["features.0.weight"] * deviation}
    write_weights(root, feature_networks.TORCHVISION["vgg19"], rescaled)
    image = 0.5 * Rng(0, "image").normal(3, 16, 16)
    ours, theirs = (
        read_network(root / "weights" / name)(image, ["relu1_1"])["relu1_1"]
        for name in ("vgg19-of-mine.pth", feature_networks.TORCHVISION["vgg19"])
    )
    # The two means differ by half a grey level.
    assert (ours - theirs).abs().max() < 2 < ours.max()


@pytest.mark.parametrize("fields", [{"size": 8}, {"style_layers": ()}])
def test_fields_out_of_range_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        NeuralArt(**fields)


def test_total_variation_of_a_ramp():
    ramp = torch.arange(4.0).expand(3, 4, 4)
    assert math.isclose(float(neural_art.total_variation(ramp)), 1.0)
