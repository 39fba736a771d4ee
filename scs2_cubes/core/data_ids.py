"""What data ids are made of: known to whoever checks a configuration, and to whoever asks a source."""

from __future__ import annotations

__all__ = ["CCI_PARTS"]

#: The parts of a data id of the CCI Open Data Portal (``drsId``), with dots between them, in their order.
CCI_PARTS = (
    "esacci",
    "ECV",
    "frequency",
    "processing level",
    "data type",
    "sensor",
    "platform",
    "product string",
    "product version",
    "suffix",
)
