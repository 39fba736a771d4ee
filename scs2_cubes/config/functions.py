"""Users' functions: their modules are found, read and parsed, never run."""

from __future__ import annotations

import ast
import tokenize
import warnings
from pathlib import Path

from scs2_cubes.config.models import CustomProcessing
from scs2_cubes.config.problems import KeyPath, Problems, nearest
from scs2_cubes.core.specification import FunctionSpec

__all__ = ["function_spec"]

_SUFFIX = ".py"


def function_spec(params: CustomProcessing, folder: Path, path: KeyPath, problems: Problems) -> FunctionSpec | None:
    """The function of ``custom_processing``, with the text of its module; reads the file, relative to ``folder``.

    A file that can't be read or parsed, and a function that isn't defined at its top level, go to ``problems``.
    """
    name = params.module_path if params.module_path.endswith(_SUFFIX) else f"{params.module_path}{_SUFFIX}"
    file = folder / Path(name).expanduser()
    source = _text(file, name, (*path, "module_path"), problems)
    functions = None if source is None else _functions(source, name, (*path, "module_path"), problems)
    if source is None or functions is None:
        return None
    if params.function_name not in functions:
        place = (*path, "function_name")
        hint = nearest(params.function_name, functions)
        problems.add(place, f"no function {problems.shown(place)} is defined at the top level of {name}; {hint}")
        return None
    return FunctionSpec(
        name=params.function_name,
        module=file.stem,
        path=str(file),
        source=source,
        whole=params.processing == "whole",
        timeout=params.timeout,
    )


def _text(file: Path, name: str, path: KeyPath, problems: Problems) -> str | None:
    """The module's text, read in the encoding that it declares (PEP 263), as Python does."""
    try:
        with tokenize.open(file) as stream:
            return stream.read()
    except OSError as error:
        text = f"the module {name} can't be read: {error.strerror}; paths are relative to the configuration file"
        problems.add(path, text)
    except (SyntaxError, UnicodeDecodeError):
        problems.add(path, f"the module {name} isn't text in the encoding that it declares, or in UTF-8")
    return None


def _functions(source: str, name: str, path: KeyPath, problems: Problems) -> frozenset[str] | None:
    try:
        with warnings.catch_warnings():
            # What Python warns about in a user's module, such as an invalid escape sequence, it tells when it runs it.
            warnings.simplefilter("ignore")
            module = ast.parse(source, filename=name)
    except SyntaxError as error:
        where = f", line {error.lineno}" if error.lineno else ""
        problems.add(path, f"syntax error in {name}{where}: {error.msg}")
        return None
    except ValueError as error:
        problems.add(path, f"the module {name} can't be parsed: {error}")
        return None
    return frozenset(node.name for node in module.body if isinstance(node, ast.FunctionDef))
