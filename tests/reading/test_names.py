"""Names around and inside the usual ones, and orders of those nobody knows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.surgery import computes_as, network, put
from helpers.torch_files import save

from converter import load
from converter.core.errors import NotADenseNet

torch = pytest.importorskip("torch")
nn = torch.nn


@pytest.mark.parametrize(
    "rename",
    [
        lambda k: k.replace("features.", "features.module."),
        lambda k: "_orig_mod." + k.replace("features.", "features._orig_mod."),
        lambda k: "_fsdp_wrapped_module." + k.replace("features.", "features._fsdp_wrapped_module."),
        lambda k: k.replace("denseblock1.", "denseblock1._checkpoint_wrapped_module."),
        lambda k: f"module.{k}" if "norm" in k else k,
        lambda k: k.replace("features.", "backbone.").replace("classifier", "fc"),
        lambda k: k.replace("features.", "0.").replace("classifier", "4"),
        lambda k: k.replace("features.", "encoder.").replace("classifier", "decoder"),
        lambda k: k.replace("features.", "features.0."),
        lambda k: k.replace("features.", "net.trunk.").replace("classifier", "net.head.1"),
    ],
)
def test_wrappers_inside_names_and_features_under_other_ones(rename: Any, tmp_path: Path) -> None:
    model = network()
    renamed = {rename(key): value for key, value in model.state_dict().items()}
    assert len(renamed) == len(model.state_dict())
    computes_as(save(tmp_path / "a.pth", renamed), model)
    dropped = load(
        save(tmp_path / "b.pth", {**renamed, "module.extra.weight": torch.ones(2, 2)}), drop=("module.extra*",)
    )
    assert len(dropped.dropped) == 1


def test_an_ensemble_is_refused_as_one(tmp_path: Path) -> None:
    state = {f"nets.{i}.{key}": v for i in (0, 1) for key, v in network().state_dict().items()}
    with pytest.raises(NotADenseNet, match=r"several networks, 'nets\.0\.', 'nets\.1\.'"):
        load(save(tmp_path / "a.pth", state))


@pytest.mark.parametrize("layers", [(2, 1), (11, 2, 1)])
def test_renumbered_sequentials_in_any_order_of_names(layers: tuple[int, ...], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = network(block_config=layers)
    put(model, "features", nn.Sequential(*model.features))
    state = model.state_dict()
    save_file(state, tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", **{key: state[key].numpy() for key in sorted(state)})
    whole = save(tmp_path / "a.pth", model)
    for path in (tmp_path / "a.safetensors", tmp_path / "a.npz", whole):
        assert "inferred" in computes_as(path, model).notes[0]


@pytest.mark.parametrize("where", ["stage{}.trans", "block{}.transition"])
def test_transitions_inside_numbered_stages_in_sorted_files(where: str, tmp_path: Path) -> None:
    """pytorchcv has them before the layers of a stage, others behind; a norm and its convolution are one module."""
    from safetensors.torch import save_file

    model, renamed = network(block_config=(2, 2, 2)), {}
    first = where.startswith("stage")
    for key, value in model.state_dict().items():
        name = key.replace("conv0.", "init_block.conv.").replace("norm0.", "init_block.bn.")
        name = name.replace("norm5.", "post_activ.bn.").replace("classifier.", "output.")
        for block in (1, 2, 3):
            stage = where.format(block + first).rpartition(".")[0]
            last = f".{block + first}." if first else "."
            name = name.replace(f"transition{block}.", where.format(block + first) + last)
            stage = where.format(block).rpartition(".")[0]
            name = name.replace(f"denseblock{block}.denselayer", f"{stage}.unit")
        name = name.replace(".norm1.", ".conv1.bn.").replace(".conv1.weight", ".conv1.conv.weight")
        renamed[name.replace(".norm2.", ".conv2.bn.").replace(".conv2.weight", ".conv2.conv.weight")] = value
    save_file(renamed, tmp_path / "a.safetensors")
    assert "inferred" in computes_as(tmp_path / "a.safetensors", model).notes[0]


def test_the_first_efficient_densenet(tmp_path: Path) -> None:
    model = network()
    renamed = {}
    for key, value in model.state_dict().items():
        name = key.replace("norm5", "norm_final")
        if "denselayer" in name:
            name = name.replace(".norm1.", ".bn.norm_").replace(".conv1.", ".bn.conv_")
            name = name.replace(".norm2.", ".norm.2.").replace(".conv2.", ".conv.2.")
        if not name.endswith("num_batches_tracked"):
            renamed[name] = value
    found = computes_as(save(tmp_path / "a.pth", renamed), model)
    assert found.origin.layout == "gpleiss-2017"


def test_the_order_of_two_poolings_is_asked_for(tmp_path: Path) -> None:
    from helpers.user_modules import AdaptiveConcatPool2d

    model = network()
    head = nn.Linear(2 * model.classifier.in_features, 3)
    whole = nn.Sequential(model.features, nn.Sequential(nn.ReLU(), AdaptiveConcatPool2d(), nn.Flatten(), head)).eval()
    state = {f"features.{key}": value for key, value in model.features.state_dict().items()}
    state |= {"classifier.weight": head.weight, "classifier.bias": head.bias}
    path = save(tmp_path / "a.pth", state)
    with pytest.raises(Exception, match=r"catavgmax.*catmaxavg"):
        load(path)
    computes_as(path, whole, settings={"global_pool": "catmaxavg"})
    found = computes_as(save(tmp_path / "b.pth", whole.state_dict()), whole)  # its modules' names say it
    assert any("maxima" in note for note in found.notes)


def test_what_runs_before_in_a_sequence_is_said_to_be_unknown(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Identity(), network()).eval()
    found = computes_as(save(tmp_path / "a.pth", dict(model.state_dict())), model)
    assert any("number 1 of a sequence" in note for note in found.notes)
