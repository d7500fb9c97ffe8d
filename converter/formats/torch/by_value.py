"""What cloudpickle and dill put into a pickle beside data: functions by value, types and modules by name.

Their helpers define things and run nothing (cloudpickle/cloudpickle.py, dill/_dill.py), so what they make
stays an inert record.  What would run is a call of such a thing: of a function that the file brings, or of
one looked up in a module.  A class that the file brings is code of which its objects cannot be told.
"""

from __future__ import annotations

from typing import Any

from converter.core.checkpoint import Record

CLOUDPICKLE, DILL = "cloudpickle", "dill._dill"
HOMES = (
    *(f"{CLOUDPICKLE}.cloudpickle", f"{CLOUDPICKLE}.cloudpickle_fast", CLOUDPICKLE),
    *("joblib.externals.cloudpickle.cloudpickle", "ray.cloudpickle.cloudpickle", "pyspark.cloudpickle.cloudpickle"),
    *(DILL, "dill"),
)
"""Modules, current and former, whose helpers these are."""

TYPE = frozenset("_builtin_type _load_type".split())
"""A type of Python's own, by its name; what calls it makes a method, a code object, a cell."""
DEFINES = frozenset(
    """_make_function _make_skel_func _fill_function _function_setstate _make_cell _make_empty_cell cell_set
    _make_typevar _make_dict_keys _make_dict_values _make_dict_items _gen_ellipsis _gen_not_implemented
    _create_function _create_code _create_cell _create_ftype _create_namedtuple _create_weakref _create_weakproxy
    _create_lock _create_rlock _create_array _dictproxy_helper _setitems _create_dtypemeta""".split()
)
MODULES = frozenset("subimport dynamic_subimport _import_module".split())
LOOKUPS = frozenset("_get_attr _getattribute".split())
CLASSES = frozenset(
    "_make_skeleton_class _rehydrate_skeleton_class _class_setstate _make_skeleton_enum _create_type".split()
)


def is_inert(module: str, name: str) -> bool:
    """Whether a global of these packages only defines or names something."""
    return module in HOMES and name in TYPE | DEFINES | MODULES | LOOKUPS


def is_class(module: str, name: str) -> bool:
    """Whether a global of these packages makes a class of code in the file."""
    return module in HOMES and name in CLASSES


def type_name(made: Any) -> str:
    """The name of a type of Python's own that such a helper gave; empty for anything else."""
    name = made.args[0] if isinstance(made, Record) and _helper(made) in TYPE and made.args else ""
    return name if isinstance(name, str) else ""


def runs(made: Any) -> str:
    """What a call of something made earlier would run, in words; empty where that only makes data."""
    if not isinstance(made, Record):
        return ""
    if _helper(made) in DEFINES:
        return "a function that it brings along"
    looked_up = _helper(made) in LOOKUPS or made.cls in ("builtins.getattr", "__builtin__.getattr")
    if looked_up and made.args and (_helper(made.args[0]) in MODULES or runs(made.args[0])):
        return f"{made.args[1] if len(made.args) > 1 else 'something'} of a module that it imports"
    return ""


def _helper(made: Any) -> str:
    home, _, name = made.cls.rpartition(".") if isinstance(made, Record) else ("", "", "")
    return name if home in HOMES else ""
