"""PyTorch's own graphs: exported programs, TorchScript, GraphModules."""
