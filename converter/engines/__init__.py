"""What computes logits; nothing else imports PyTorch, ONNX Runtime, OpenVINO, Keras, timm or torchvision."""
