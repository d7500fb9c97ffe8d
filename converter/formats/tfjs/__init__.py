"""TensorFlow.js' models: a ``model.json`` with the network's description, and its weights in binary files beside it."""
