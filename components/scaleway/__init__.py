"""Scaleway: one file per noun, ``cloud.Scaleway`` over them, and what it sells as data.

Importing the package loads no SDK, so that the config can read the catalogue cheaply.
"""
