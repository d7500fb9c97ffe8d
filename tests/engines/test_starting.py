"""What starting the engines loads."""

import subprocess
import sys


def test_torchvisions_network_does_not_wait_for_pytorchs_compiler() -> None:
    """Nor is it lost: torchvision's pooling of regions, which asks it something, gets the answer."""
    code = """
import sys, types
from converter.engines.networks import torchvision_network
from densenet import DenseNetConfig
torchvision_network(DenseNetConfig(block_config=(1, 1), num_classes=2))
assert not any(name.startswith("torch._dynamo") for name in sys.modules)
compiler = sys.modules["torch._dynamo.utils"] = types.ModuleType("torch._dynamo.utils")  # the real one takes seconds
compiler.is_compile_supported = lambda device: f"asked about {device}"
print(sys.modules["torchvision.ops.roi_align"].is_compile_supported("cpu"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "asked about cpu"), done.stderr
