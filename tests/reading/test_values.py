"""Values in state dicts that are no plain tensors: read where that is exact, else named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.surgery import computes_as, network, put
from helpers.torch_files import save
from helpers.user_modules import Scale

from converter import inspect, load
from converter.core.errors import NotADenseNet

torch = pytest.importorskip("torch")
pytest.importorskip("torch.nn.utils.prune")
nn, utils = torch.nn, torch.nn.utils
parametrizations = utils.parametrizations


@pytest.mark.parametrize("legacy", [False, True])
def test_numpy_arrays_in_torch_files_are_tensors(legacy: bool, tmp_path: Path) -> None:
    model = network()
    state = model.state_dict()
    arrays = {key: value.numpy() for key, value in state.items()}
    how = {"_use_new_zipfile_serialization": not legacy}
    for content in (arrays, {**state, "classifier.weight": arrays["classifier.weight"]}, list(arrays.values())):
        computes_as(save(tmp_path / "a.pth", content, **how), model)


def test_arrays_without_names_are_taken_in_order(tmp_path: Path) -> None:
    model = network()
    values = [value.numpy() for value in model.state_dict().values()]
    np.savez(tmp_path / "a.npz", *values)
    for path in (tmp_path / "a.npz", save(tmp_path / "a.pth", list(model.state_dict().values()))):
        assert "inferred" in computes_as(path, model).notes[0]
    np.savez(tmp_path / "b.npz", *[value.detach().numpy() for value in model.parameters()])  # without statistics
    with pytest.raises(NotADenseNet):
        load(tmp_path / "b.npz")


def test_dicts_within_dicts_and_lists_of_pairs(tmp_path: Path) -> None:
    model = network()
    tree: dict[str, Any] = {}
    for key, value in model.state_dict().items():
        *modules, leaf = key.split(".")
        inner = tree
        for module in modules:
            inner = inner.setdefault(module, {})
        inner[leaf] = value
    for content in (tree, {"epoch": 3, "model": tree}, list(model.state_dict().items())):
        computes_as(save(tmp_path / "a.pth", content), model)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.to_sparse(), "sparse"),
        (lambda t: t.to_sparse_csr(), "sparse"),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "quantised"),
        (lambda t: t.to("meta"), "meta device"),
        (lambda t: torch.empty(0), "ZeRO"),
        (lambda t: t.tolist(), "list"),
        (lambda t: None, "None"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_read_is_named(change: Any, said: str, state: Any, tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", {**state, "classifier.weight": change(state["classifier.weight"])})
    with pytest.raises(NotADenseNet, match=rf"classifier\.weight is .*{said}"):
        load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: utils.prune.l1_unstructured(m.features.conv0, "weight", 0.5),
        lambda m: utils.prune.random_unstructured(m.classifier, "bias", 0.5),
        lambda m: utils.weight_norm(m.classifier),
        lambda m: utils.weight_norm(m.classifier, dim=1),
        lambda m: utils.weight_norm(m.classifier, dim=None),
        lambda m: utils.weight_norm(m.features.conv0),
        lambda m: parametrizations.weight_norm(m.features.conv0),
        lambda m: utils.spectral_norm(m.features.conv0),
        lambda m: parametrizations.spectral_norm(m.classifier),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_parametrizations_are_computed_as_in_evaluation(change: Any, tmp_path: Path) -> None:
    model = network()
    change(model)
    model.eval()
    computes_as(save(tmp_path / "a.pth", model.state_dict()), model)
    if not utils.parametrize.is_parametrized(model.classifier) and not utils.parametrize.is_parametrized(
        model.features.conv0
    ):
        computes_as(save(tmp_path / "b.pth", model), model)


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.filterwarnings("ignore")
def test_spectral_norm_of_a_square_weight(dim: int, tmp_path: Path) -> None:
    """Shapes do not say along which axis it was taken."""
    model = network()
    model.classifier = nn.Linear(model.classifier.in_features, model.classifier.in_features)
    parametrizations.spectral_norm(model.classifier, n_power_iterations=15, dim=dim)
    computes_as(save(tmp_path / "a.pth", model.eval().state_dict()), model)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.filterwarnings("ignore")
def test_spectral_norm_of_a_square_weight_that_was_never_trained(seed: int, tmp_path: Path) -> None:
    """``u`` and ``v`` are random then, and say nothing: it is the first axis, as PyTorch takes it."""
    torch.manual_seed(seed)
    model = network()
    model.classifier = utils.spectral_norm(nn.Linear(model.classifier.in_features, model.classifier.in_features))
    computes_as(save(tmp_path / "a.pth", model.eval().state_dict()), model)


def test_a_dynamically_quantised_layer_is_named(tmp_path: Path) -> None:
    model = torch.ao.quantization.quantize_dynamic(network(), {nn.Linear})
    with pytest.raises(NotADenseNet, match=r"classifier\._packed_params\._packed_params is a quantised tensor"):
        load(save(tmp_path / "a.pth", model.state_dict()))


def test_what_a_tensor_was_computed_from_is_reported(tmp_path: Path) -> None:
    model = network()
    utils.prune.l1_unstructured(model.classifier, "weight", 0.5)
    found = inspect(save(tmp_path / "a.pth", model.state_dict())).to_dict()
    assert found["tensors"]["classifier.weight"]["keys"] == ["classifier.weight_orig", "classifier.weight_mask"]


def test_norms_that_only_normalise(tmp_path: Path) -> None:
    """BatchNorm2d(affine=False): ones and zeros, if all are so; one that lacks its own is a damaged file."""
    model = network()
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            bare = nn.BatchNorm2d(module.num_features, affine=False)
            bare.load_state_dict({k: v for k, v in module.state_dict().items() if "running" in k or "num" in k})
            put(model, name, bare)
    assert "no norm has a weight: 1 is taken" in computes_as(save(tmp_path / "a.pth", model.state_dict()), model).notes
    computes_as(save(tmp_path / "b.pth", model), model)
    state = network().state_dict()
    del state["features.norm0.bias"]
    with pytest.raises(NotADenseNet, match=r"missing features\.norm0\.bias"):
        load(save(tmp_path / "c.pth", state))


def test_other_parametrizations_are_refused(tmp_path: Path) -> None:
    for change in (
        lambda m: parametrizations.orthogonal(m.classifier),
        lambda m: utils.parametrize.register_parametrization(m.classifier, "weight", Scale()),
    ):
        model = network()
        change(model)
        with pytest.raises(NotADenseNet, match=r"classifier\.parametrizations"):
            load(save(tmp_path / "a.pth", model.state_dict()))


def test_one_tensor_under_two_names_is_an_alias(tmp_path: Path) -> None:
    model = network()
    state = model.state_dict()
    twice = {
        **{f"module.model.{k}": v for k, v in state.items()},
        **{f"module.attacker.model.{k}": v for k, v in state.items()},
    }
    found = computes_as(save(tmp_path / "a.pth", twice), model)
    assert found.dropped["module.attacker.model.classifier.bias"] == "the same tensor as module.model.classifier.bias"
    copies = {key: value.clone() for key, value in twice.items()}
    with pytest.raises(NotADenseNet):
        load(save(tmp_path / "b.pth", copies))


@pytest.mark.parametrize(
    ("head", "pooled", "note"),
    [
        (lambda w: nn.Linear(w, 3, bias=False), True, "no bias"),
        (lambda w: nn.Conv2d(w, 3, 1), False, "1x1 convolution"),
        (lambda w: nn.Conv2d(w, 3, 1, bias=False), False, "1x1 convolution"),
    ],
)
def test_heads_that_are_exactly_linear(head: Any, pooled: bool, note: str, tmp_path: Path) -> None:
    model = network()
    features, layer = model.features, head(model.classifier.in_features)
    average = nn.AdaptiveAvgPool2d(1)
    flat = nn.Flatten()
    parts = (average, flat, layer) if pooled else (average, layer, flat)
    whole = nn.Sequential(features, nn.ReLU(), *parts).eval()
    state = {**{f"features.{k}": v for k, v in features.state_dict().items()}}
    state |= {f"classifier.{k}": v for k, v in layer.state_dict().items()}
    found = computes_as(save(tmp_path / "a.pth", state), whole)
    assert any(note in each for each in found.notes)
    computes_as(save(tmp_path / "b.pth", whole), whole)


def test_norms_folded_into_convolutions(tmp_path: Path) -> None:
    optimization = pytest.importorskip("torch.fx.experimental.optimization")
    model = network()
    fused = optimization.fuse(model)
    assert "features.norm0.weight" not in fused.state_dict()
    computes_as(save(tmp_path / "a.pth", fused.state_dict()), model)


def test_a_head_of_layers_that_are_not_known_is_refused_by_name(tmp_path: Path) -> None:
    model = network()
    width = model.classifier.in_features
    put(model, "classifier", nn.Sequential(nn.Linear(width, 5), nn.LayerNorm(5), nn.Linear(5, 3)))
    state = {key.replace("classifier", "decoder"): value for key, value in model.state_dict().items()}
    with pytest.raises(
        NotADenseNet, match=r"decoder\.2\.weight takes what decoder\.0\.weight gives.*decoder\.1\.weight.*not known"
    ):
        load(save(tmp_path / "a.pth", state))
