"""What computes; nothing else imports PyTorch, ONNX Runtime, OpenVINO, Keras, TensorFlow, Paddle, timm, torchvision."""
