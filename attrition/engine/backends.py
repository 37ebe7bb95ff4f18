"""Run one function over many parts of the data, one after the other."""

import importlib
from collections.abc import Iterable, Sequence
from typing import Any


def run(task: str, calls: Iterable[Sequence[Any]]) -> list[Any]:
    """Call a function once for each tuple of arguments; return the results in the same order.

    task: "module:function", imported wherever it runs; arguments and results are plain values, such as
    paths, numbers and records

    >>> run("math:hypot", [(3, 4), (6, 8)])
    [5.0, 10.0]
    """
    module, _, name = task.partition(":")
    function = getattr(importlib.import_module(module), name)
    return [function(*arguments) for arguments in calls]
