"""The code with which transformers loads a network that it has no class for.

The Hub's mechanism for custom models: ``auto_map`` in config.json and preprocessor_config.json names classes of files
in the repository, which transformers runs where its user says ``trust_remote_code=True``.  A package has the files of
the folder ``for_transformers`` byte for byte, so that who trusts this tool need not read them in every repository.
"""

import ast
from functools import cache
from pathlib import Path
from typing import Any

from densenet.config import DenseNetConfig

FOLDER = Path(__file__).with_name("for_transformers")
CONFIGURATION, MODELING, PROCESSING = "configuration_densenet", "modeling_densenet", "image_processing_densenet"
CODE = (f"{CONFIGURATION}.py", f"{PROCESSING}.py", f"{MODELING}.py")
MODEL_TYPE = "densenet-converter"
"""No class of transformers' own may ever be taken for ours: without trust there is none of this type."""
PROCESSOR = "DenseNetImageProcessor"


def code_of(name: str) -> bytes:
    """One of the files :data:`CODE`, as every package has it."""
    return (FOLDER / name).read_bytes()


@cache
def known_fields() -> frozenset[str]:
    """The fields of a config that the code knows: the table ``USUAL``, which is read, not run."""
    parsed = ast.parse(code_of(f"{CONFIGURATION}.py"))
    (table,) = (node.value for node in parsed.body if isinstance(node, ast.AnnAssign) and node.value)
    return frozenset(ast.literal_eval(table))


def why_not_transformers(config: DenseNetConfig) -> str:
    """What of a network that code does not know; empty if it knows all."""
    if config.spatial_dims != 2:
        return f"the code that packages have for transformers is for images, not for {config.spatial_dims} dimensions"
    unknown = sorted(set(config.to_dict()) - known_fields())
    return f"the code that packages have for transformers knows no {', '.join(unknown)}" if unknown else ""


def model_fields(config: DenseNetConfig) -> dict[str, Any]:
    """What config.json says for transformers to load the network with that code, in float32."""
    classes = {"AutoModel": "DenseNetModel"}
    if config.num_classes or config.heads:
        classes["AutoModelForImageClassification"] = "DenseNetForImageClassification"
    auto = {"AutoConfig": f"{CONFIGURATION}.DenseNetConfig", **{k: f"{MODELING}.{v}" for k, v in classes.items()}}
    return {
        "model_type": MODEL_TYPE,
        "architectures": [list(classes.values())[-1]],
        "auto_map": auto,
        "torch_dtype": "float32",
    }
