"""Functions Dataset to Dataset: the users' own, applied to each tile's window of the source."""

from scs2_cubes.processing.functions import apply_function, load_function
from scs2_cubes.processing.windows import (
    Output,
    decode_window,
    learn_outputs,
    narrow_times,
    output_planes,
    sample_window,
)

__all__ = [
    "Output",
    "apply_function",
    "decode_window",
    "learn_outputs",
    "load_function",
    "narrow_times",
    "output_planes",
    "sample_window",
]
