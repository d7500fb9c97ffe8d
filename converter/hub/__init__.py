"""Publishing: the repository folder, its model card, the push, and the proof of what is published.

timm, transformers, ONNX Runtime, optimum and transformers.js each expect certain files
under certain names; :mod:`converter.hub.package` writes them all.
"""
