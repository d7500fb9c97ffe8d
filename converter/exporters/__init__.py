"""Writers: safetensors, torch's .pth, npz, ONNX.  None of them needs torch."""
