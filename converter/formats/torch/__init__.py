"""What torch.save, torch.jit.save and torch.export.save write; read without torch, and without running anything."""
