"""Scell.io: what a stack file says of it (``config``), and what is built from that (``composition``)."""

from systems.scell.config import ScellConfig

__all__ = ["ScellConfig"]
