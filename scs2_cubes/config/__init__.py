"""YAML and environment in, frozen validated values out: the only reader of either. No network.

``problems`` collects what is wrong, so that one error tells everything; ``models`` is the schema; ``support`` lists
what the schema knows and this version can't do yet; ``load`` is the order of steps.
"""

from scs2_cubes.config.load import dagster_home, json_schema, load_case
from scs2_cubes.config.overview import describe, effective

__all__ = ["dagster_home", "describe", "effective", "json_schema", "load_case"]
