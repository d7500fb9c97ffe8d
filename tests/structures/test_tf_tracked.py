"""TensorFlow: object-based checkpoints, with names and without."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from helpers.networks import SMALL, imagenet_configs
from helpers.tensorflow import keras_objects, same, write_v2
from hypothesis import given, settings
from hypothesis import strategies as st

from converter import load


@settings(max_examples=15)
@given(config=imagenet_configs(), named=st.booleans())
def test_object_based_checkpoints(tmp_path, config, named):
    tensors, (arrays, graph) = keras_objects(config)
    arrays |= {
        "save_counter/.ATTRIBUTES/VARIABLE_VALUE": np.array(1),
        "layer_with_weights-0/kernel/.OPTIMIZER_SLOT/optimizer/m/.ATTRIBUTES/VARIABLE_VALUE": np.zeros(3, np.float32),
    }
    model = load(write_v2(tmp_path / "ckpt", arrays, graph=graph if named else b""))
    same(model, tensors)
    assert model.origin.layout == ("keras2" if named else "keras-tracked")
    assert model.config == replace(config, eps=1.001e-5)


def test_layers_are_ordered_by_number(tmp_path):
    _, (arrays, _) = keras_objects(SMALL)
    assert len(arrays) > 40  # so that 10 comes before 2 as text
    note = load(write_v2(tmp_path / "ckpt", arrays)).notes
    assert any("the file cannot say" in text for text in note)
