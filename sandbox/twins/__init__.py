"""Twins of provider plugins: the engine's own protocol, answered from fact tables and the inventory."""
