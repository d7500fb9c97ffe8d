"""Coverage-guided fuzzing of every reader: is there a file that does more than be read or refused?

    python -m tools.fuzz seeds FOLDER                     seeds for every reader, made by the frameworks that are there
    python -m tools.fuzz run FOLDER [READER...] [--runs N] [--seconds N] [--turns N] [--open]
    python -m tools.fuzz try FOLDER READER FILE...        what inputs do, one by one
    python -m tools.fuzz table FOLDER...                  what was run so far
    python -m tools.fuzz list

A reader (``targets.py``) is what turns one file into something: each format, what stands beside one (an index, a
prototxt, a symbol), and the other files that people hand over (layouts, labels, images, tables of truths, records). What it
is given may be read or refused with a ``ConverterError``. Findings are other exceptions, more than 5 s, more than 1 GB; each
is kept in ``FOLDER/READER/findings``, exceptions one a place in the code, and a run goes on after them.  What is mended
goes to ``tests/tools/found/READER``, where a test reads it from then on.

``run`` needs atheris (``pip install atheris``), and the test extra to make seeds. ``--open`` leaves out what follows once a
checkpoint is open and its tensors are read: recognising, graphs, settling. PYTHONPATH must name ``.`` and ``tests``.
"""
