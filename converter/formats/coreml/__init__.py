"""Core ML's models: programs (``.mlpackage``) and neural networks (``.mlmodel``), as one list of operations."""
