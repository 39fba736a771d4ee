"""What Dagster loads: ``$SCS2_CONFIG`` (default ``configs/scs2.yml``) as definitions."""

from scs2_cubes.config import load_case
from scs2_cubes.orchestration.build import build_definitions

defs = build_definitions(load_case())
