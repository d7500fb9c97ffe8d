"""Preprocessings of published models."""

from __future__ import annotations

from collections.abc import Mapping

from densenet.preprocess import MMPRETRAIN, TIMM, TORCHVISION, Preprocess

TIMM_288 = Preprocess(resize=303, crop=(288, 288), interpolation="bicubic")
"""timm/models/densenet.py, test_input_size and test_crop_pct (0.95) of the two ra_in1k models."""
PRESETS: Mapping[str, Preprocess] = {
    "torchvision": TORCHVISION,
    "mmpretrain": MMPRETRAIN,
    "timm": TIMM,
    "timm-288": TIMM_288,
}
