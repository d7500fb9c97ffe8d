"""What a checkpoint's weights were reduced to."""

import numpy as np

from converter.core.model import Model


def precision_of_model(model: Model) -> str:
    """``fp16`` or ``bf16`` if all weights of a checkpoint are stored so, else ``fp32``."""
    kinds = {str(t.dtype) for t in model.tensors.values() if len(t.shape) > 1}
    return {"float16": "fp16", "bfloat16": "bf16"}.get(kinds.pop(), "fp32") if len(kinds) == 1 else "fp32"


def precision_of_values(model: Model) -> str:
    """``fp16`` if half precision holds most weights exactly, else ``fp32``: of Core ML, which is read as float32."""
    kernels = [tensor.read() for tensor in model.tensors.values() if len(tensor.shape) > 1]
    with np.errstate(over="ignore"):
        half = sum(kernel.size for kernel in kernels if np.array_equal(kernel.astype(np.float16), kernel))
    return "fp16" if 2 * half > sum(kernel.size for kernel in kernels) else "fp32"
