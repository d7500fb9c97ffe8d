"""Random surgery on real networks: is the tool ever silently wrong?

    python -m tools.surgery [--count N] [--seed N] [--kind TEXT]... [--container TEXT]... [--json FILE]
    python -m tools.surgery --variant torchvision/stem-stride1+behind-softmax/whole/17
    python -m tools.surgery --list

Small DenseNets of torchvision, timm, MONAI and keras.applications are changed as people change them (``around``,
``inside``, ``weights``, ``keras_patient``: a table of kinds each), one kind alone or two or three together, saved in a way
that people save them (``containers``), converted and exported as a user would, and run in ONNX Runtime on two images. The
original's own logits are the truth. Verdicts:

* *equal*: the same logits; *equal, noted*: the same, and something was said to be assumed;
* *refused*: one line, exit status 2 or 3;
* *other, noted*: other logits, and a note that names the cause (each kind says what that is);
* *SILENT*: other logits, and no such note; *CRASHED*: a traceback, a hang, a graph that does not run.

Of several kinds in one network some may be noted and others silently wrong: those that no note names are tried
again without the others. What a framework cannot save is counted apart and judged by nobody.

Exit status 1 if anything was silent or crashed; each such variant is printed as ``--variant`` takes it. The same seed
makes the same variants. Needs the test extra; TensorFlow, dill and more kinds of file are used where they are there.
"""
