"""Every layout both ways: what goes out under other names comes back bit for bit."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.networks import random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from converter import load
from converter.core.checkpoint import Tensor
from converter.core.errors import CannotExpress, ConverterError, NotADenseNet
from converter.core.model import Model
from converter.layouts import LAYOUTS, layout_named
from converter.layouts.layout import Layout
from converter.reading.recognise import recognise
from converter.reading.wrappers import groups
from converter.writing.in_layout import in_layout
from densenet.config import DenseNetConfig
from densenet.module import COUNTER

WRITABLE = [layout for layout in LAYOUTS if layout.writable]


@st.composite
def configs_of(draw: st.DrawFn, layout: Layout) -> DenseNetConfig:
    """A network this layout can express."""
    stem = draw(st.sampled_from(("imagenet", *layout.expresses.get("stem", ()))))
    if layout.network.get("stem"):
        stem = layout.network["stem"]
    bottleneck = draw(st.booleans()) if "bottleneck" in layout.expresses else True
    compression = draw(st.sampled_from((0.5, 0.7, 1.0))) if "compression" in layout.expresses else 0.5
    if "classifier" not in layout.modules:
        classes = 0
    else:
        classes = draw(st.integers(1, 6))
    config = DenseNetConfig(
        growth_rate=draw(st.integers(2, 5)),
        block_config=tuple(draw(st.lists(st.integers(1, 3), min_size=2, max_size=5))),
        init_features=draw(st.integers(4, 9)),
        bottleneck=bottleneck,
        bn_size=draw(st.integers(1, 4)) if bottleneck else 4,
        compression=compression,
        stem=stem,
        stem_widths=(3, 5) if stem == "deep" else (),
        num_classes=classes,
        in_channels=draw(st.sampled_from((1, 3))),
    )
    return replace(config, **{k: v for k, v in layout.network.items() if k != "stem"})


def read_back(tensors: Mapping[str, Tensor], layout: str, folder: Path, prefix: str = "") -> Model:
    """What a layout's tensors are read as from a file that says nothing else."""
    path = folder / f"{len(list(folder.iterdir()))}.npz"  # another each time: what was read before is still mapped
    np.savez(path, **{prefix + name: tensor.read() for name, tensor in tensors.items()})
    return load(path, layout=layout)


@pytest.mark.parametrize("layout", WRITABLE, ids=lambda layout: layout.name)
@settings(max_examples=20)
@given(data=st.data())
def test_out_and_back_is_bit_exact(
    layout: Layout, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    config = data.draw(configs_of(layout))
    original = random_model(config, counters=True)
    written = in_layout(original, layout).tensors
    assert len(set(written)) == len(written)
    folder = tmp_path_factory.mktemp("layout")
    returned = read_back(written, layout.name, folder, data.draw(st.sampled_from(("", "module.", "net.model."))))
    # Several fractions can have the same floors: what counts is that the shapes are the same.
    assert replace(returned.config, compression=config.compression) == config
    assert returned.config.tensors() == config.tensors()
    optional = {name for name in original.tensors if name.endswith(COUNTER)}
    assert set(returned.tensors) in (set(original.tensors), set(original.tensors) - optional)
    for name, tensor in returned.tensors.items():
        assert tensor.read().dtype == original.tensors[name].dtype
        np.testing.assert_array_equal(tensor.read(), original.tensors[name].read(), err_msg=name)


@pytest.mark.parametrize("layout", WRITABLE, ids=lambda layout: layout.name)
def test_recognised_without_being_told(layout: Layout) -> None:
    config = replace(
        DenseNetConfig(growth_rate=4, block_config=(2, 1, 2), init_features=8, num_classes=3), **layout.network
    )
    if "classifier" not in layout.modules:
        config = replace(config, num_classes=0)
    written = in_layout(random_model(config), layout).tensors
    candidate, _ = recognise(groups(written))
    same_names = {
        known.name for known in LAYOUTS if known.expand(config).keys() and _names(known, config) == set(written)
    }
    assert candidate.layout.name in same_names
    assert candidate.config is not None
    assert candidate.config.tensors() == config.tensors()


def _names(layout: Layout, config: DenseNetConfig) -> set[str]:
    return {key for leaf, keys in layout.expand(config).values() if not leaf.optional for key in keys}


def test_a_chain_of_layouts_gives_back_every_byte(tmp_path: Path) -> None:
    config = DenseNetConfig(growth_rate=4, block_config=(2, 1, 2, 1), init_features=8, num_classes=3)
    original = random_model(config, counters=True)
    current = original
    for name in ("torchvision", "library", "timm", "library", "mmpretrain", "library", "torchvision-legacy", "library"):
        written = in_layout(current, layout_named(name)).tensors
        current = read_back(written, name, tmp_path, "module." if name == "timm" else "")
    assert list(current.tensors) == list(original.tensors)
    for name, tensor in current.tensors.items():
        assert tensor.read().tobytes() == original.tensors[name].read().tobytes()


@pytest.mark.parametrize(
    ("layout", "changes", "named"),
    [
        ("torchvision", {"stem": "deep"}, "stem='deep'"),
        ("torchvision", {"global_pool": "catavgmax"}, "global_pool"),
        ("torchvision", {"final_relu": False}, "final_relu"),
        ("torchvision", {"compression": 0.7}, "compression"),
        ("torchvision-legacy", {"bottleneck": False}, "bottleneck"),
        ("timm", {"stem": "cifar"}, "stem='cifar'"),
        ("mmpretrain", {"stem_pool": "blur"}, "stem_pool"),
        ("torchvision-features", {}, "classifier"),
    ],
)
def test_what_a_layout_cannot_say_is_refused_by_name(layout: str, changes: dict[str, object], named: str) -> None:
    config = DenseNetConfig(
        **{"growth_rate": 4, "block_config": (1, 1), "init_features": 8, "num_classes": 3, **changes}
    )
    with pytest.raises(CannotExpress, match=named):
        in_layout(random_model(config, counters=True), layout_named(layout))


@pytest.mark.parametrize("eps", [1e-3, 1e-7])
def test_eps_is_folded_where_the_target_fixes_another(eps: float) -> None:
    config = DenseNetConfig(growth_rate=4, block_config=(1, 1), init_features=8, num_classes=3, eps=eps)
    original = random_model(config, counters=True)
    dead = np.full(config.num_features, 1e-9, np.float32)  # too small to lose the difference of the two eps
    original = replace(original, tensors={**original.tensors, "norm.running_var": Tensor.of(dead)})
    arranged = in_layout(original, layout_named("torchvision"))
    written, notes = arranged.tensors, arranged.notes
    assert "eps" in notes[0]
    for ours, theirs in (("norm", "features.norm5"), ("stem.norm", "features.norm0")):
        scales = []
        for values, prefix, e in ((original.tensors, ours, eps), (written, theirs, 1e-5)):
            weight, variance = (values[f"{prefix}.{leaf}"].read().astype(float) for leaf in ("weight", "running_var"))
            scales.append(weight / np.sqrt(variance + e))
        np.testing.assert_allclose(scales[1], scales[0], rtol=1e-6)


def test_a_norm_that_divides_by_zero_is_refused() -> None:
    config = DenseNetConfig(growth_rate=4, block_config=(1, 1), init_features=8, num_classes=3, eps=0.0)
    zero = {"norm.running_var": Tensor.of(np.zeros(config.num_features, np.float32))}
    original = random_model(config, counters=True)
    with pytest.raises(CannotExpress, match="divides by zero"):
        in_layout(replace(original, tensors={**original.tensors, **zero}), layout_named("timm"))


def test_no_such_layout() -> None:
    with pytest.raises(ConverterError, match="torchvision"):
        layout_named("tourchvision")


def test_a_key_used_twice_or_not_at_all_is_an_error() -> None:
    config = DenseNetConfig(growth_rate=4, block_config=(1, 1), init_features=8, num_classes=3)
    written = in_layout(random_model(config, counters=True), layout_named("torchvision")).tensors
    extra = Tensor.of(written["features.norm5.weight"].read() + 1)
    with pytest.raises(NotADenseNet, match=r"unexpected features\.extra\.weight"):
        recognise(groups({**written, "features.extra.weight": extra}))
    candidate, _ = recognise(groups({**written, "features.extra.weight": extra}), drop=["*extra*"])
    assert candidate.dropped == {"features.extra.weight": "left out by request"}
    candidate, _ = recognise(groups({**written, "features.extra.weight": written["features.norm5.weight"]}))
    assert candidate.dropped == {"features.extra.weight": "the same tensor as features.norm5.weight"}
