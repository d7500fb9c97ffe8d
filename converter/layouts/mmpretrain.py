"""mmpretrain and mmcls (mmpretrain/models/backbones/densenet.py).

Everything counts from 0; the last "transition" is the final norm.  Files are
``{"meta": ..., "state_dict": ...}``; a backbone's own file drops ``backbone.``.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from converter.layouts.layout import Layout


def wrap(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The dict mmpretrain's ``init_model`` and mmengine's ``load_checkpoint`` expect."""
    return {"meta": {}, "state_dict": dict(tensors)}


MMPRETRAIN = Layout(
    name="mmpretrain",
    about="mmpretrain and mmcls classifiers",
    modules={
        "stem.conv": "backbone.stem.0",
        "stem.norm": "backbone.stem.1",
        "blocks.{b}.layers.{l}.norm1": "backbone.stages.{b}.block.{l}.norm1",
        "blocks.{b}.layers.{l}.conv1": "backbone.stages.{b}.block.{l}.conv1",
        "blocks.{b}.layers.{l}.norm2": "backbone.stages.{b}.block.{l}.norm2",
        "blocks.{b}.layers.{l}.conv2": "backbone.stages.{b}.block.{l}.conv2",
        "transitions.{t}.norm": "backbone.transitions.{t}.norm",
        "transitions.{t}.conv": "backbone.transitions.{t}.conv",
        "norm": "backbone.transitions.{n-1}.0",
        "classifier": "head.fc",
    },
    expresses={"compression": ()},
    ignore={
        "ema_*": "weights before averaging (mmcv 1.x's EMAHook); the plain names hold the average",
        "data_preprocessor.*": "constants of the preprocessing",
    },
    wrapper=wrap,
)

BACKBONE = replace(
    MMPRETRAIN,
    name="mmpretrain-backbone",
    about="an mmpretrain backbone's own file",
    modules={
        library: name.removeprefix("backbone.")
        for library, name in MMPRETRAIN.modules.items()
        if library != "classifier"
    },
)
