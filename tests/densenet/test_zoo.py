"""The zoo against what the publishers' own packages say."""

import re

import pytest

from densenet.config import DenseNetConfig
from densenet.labels import imagenet_classes
from densenet.preprocess import from_timm
from densenet.zoo import MODELS, zoo_model

PARAMETERS = {
    "densenet121": 7978856,
    "densenet169": 14149480,
    "densenet201": 20013928,
    "densenet161": 28681000,
}
"""mmpretrain, configs/densenet/metafile.yml; torchvision/models/densenet.py says the same."""
MMPRETRAIN = {
    "densenet121_3rdparty_in1k": ("densenet121_4xb256_in1k_20220426-07450f99.pth", 74.96, 92.21),
    "densenet169_3rdparty_in1k": ("densenet169_4xb256_in1k_20220426-a2889902.pth", 76.08, 93.11),
    "densenet201_3rdparty_in1k": ("densenet201_4xb256_in1k_20220426-05cae4ef.pth", 77.32, 93.64),
    "densenet161_3rdparty_in1k": ("densenet161_4xb256_in1k_20220426-ee6a80a9.pth", 77.61, 93.83),
}
RESULTS_IMAGENET_CSV = """\
densenet161.tv_in1k,224,77.384,22.616,93.656,6.344,28.68,0.875,bicubic
densenet201.tv_in1k,224,77.284,22.716,93.480,6.520,20.01,0.875,bicubic
densenetblur121d.ra_in1k,224,76.574,23.426,93.188,6.812,8.00,0.875,bicubic
densenet169.tv_in1k,224,75.922,24.078,92.976,7.024,14.15,0.875,bicubic
densenet121.ra_in1k,224,75.574,24.426,92.648,7.352,7.98,0.875,bicubic
densenet121.tv_in1k,224,74.750,25.250,92.158,7.842,7.98,0.875,bicubic
"""
"""timm, results/results-imagenet.csv: model, img_size, top1, top1_err, top5, top5_err, param_count ..."""


def ids(models):
    return [model.name for model in models]


@pytest.mark.parametrize("model", MODELS, ids=ids(MODELS))
def test_every_entry(model):
    arch = re.search(r"densenet(blur)?\d+d?", model.name)[0]
    assert model.config == DenseNetConfig.named(arch)
    assert model.config.parameters() == PARAMETERS.get(arch, model.config.parameters())
    assert model.url.startswith("https://")
    if model.sha256_prefix:
        assert re.fullmatch(r"[0-9a-f]{8}", model.sha256_prefix)
        assert model.url.endswith(f"-{model.sha256_prefix}.pth")
    else:
        assert model.url == f"https://huggingface.co/{model.hub_id}/resolve/main/model.safetensors"
    assert 70 < model.top1 < model.top5 < 100
    assert model.accuracy_source
    assert model.config.num_classes == len(imagenet_classes())
    assert model.preprocess.channels == model.config.in_channels


def test_names_are_unique():
    names = [name for model in MODELS for name in (model.name, *model.aliases)]
    assert len(names) == len(set(names))
    assert all(zoo_model(name) in MODELS for name in names)


@pytest.mark.parametrize("name", MMPRETRAIN)
def test_mmpretrain(name):
    model = zoo_model(name)
    file, top1, top5 = MMPRETRAIN[name]
    assert model.url == f"https://download.openmmlab.com/mmclassification/v0/densenet/{file}"
    assert (model.top1, model.top5) == (top1, top5)
    assert model.layout == "mmpretrain"


@pytest.mark.parametrize("arch", PARAMETERS)
def test_torchvision(arch):
    models = pytest.importorskip("torchvision.models")
    weights = models.get_model_weights(arch).IMAGENET1K_V1
    model = zoo_model(f"torchvision/{arch}")
    assert model is zoo_model(str(weights))
    assert model.url == weights.url
    metrics = weights.meta["_metrics"]["ImageNet-1K"]
    assert (model.top1, model.top5) == (metrics["acc@1"], metrics["acc@5"])
    assert model.config.parameters() == weights.meta["num_params"]
    transforms = weights.transforms()
    assert [model.preprocess.resize] == transforms.resize_size
    assert list(model.preprocess.crop) == transforms.crop_size * 2
    assert model.preprocess.interpolation == transforms.interpolation.value
    assert list(model.preprocess.mean) == transforms.mean
    assert list(model.preprocess.std) == transforms.std


@pytest.mark.parametrize("row", RESULTS_IMAGENET_CSV.splitlines())
def test_timm_results(row):
    name, _, top1, _, top5, _, millions, *_ = row.split(",")
    model = zoo_model(name)
    assert (model.top1, model.top5) == (float(top1), float(top5))
    assert round(model.config.parameters() / 1e6, 2) == float(millions)


def test_timm():
    timm = pytest.importorskip("timm")
    ours = {model.name: model for model in MODELS if model.layout == "timm"}
    assert set(ours) == set(timm.list_models("densenet*", pretrained=True))
    for name, model in ours.items():
        cfg = timm.get_pretrained_cfg(name)
        assert cfg.hf_hub_id == model.hub_id
        assert cfg.num_classes == model.config.num_classes
        assert from_timm(cfg.to_dict()) == model.preprocess
        network = timm.create_model(name, pretrained=False)
        assert sum(p.numel() for p in network.parameters()) == model.config.parameters()


@pytest.mark.parametrize(
    ("wrong", "offered"),
    [
        ("densenet121", ["densenet121_3rdparty_in1k", "torchvision/densenet121", "densenet121.ra_in1k"]),
        ("densenet121_3rdparty_in1", ["densenet121_3rdparty_in1k"]),
        ("densnet169_3rdparty_in1k", ["densenet169_3rdparty_in1k"]),
        ("", ["densenet121_3rdparty_in1k"]),
        ("resnet", ["densenet121_3rdparty_in1k"]),
    ],
)
def test_unknown_name(wrong, offered):
    with pytest.raises(ValueError, match="no published model is named") as caught:
        zoo_model(wrong)
    assert "\n" not in str(caught.value)
    for name in offered:
        assert name in str(caught.value)


def test_classes():
    names = imagenet_classes()
    assert len(names) == 1000
    assert names[0] == "tench"
    assert names[281] == "tabby"
    assert names[999] == "toilet tissue"
    meta = pytest.importorskip("torchvision.models._meta")
    assert list(names) == meta._IMAGENET_CATEGORIES
