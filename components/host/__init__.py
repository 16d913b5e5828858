"""Debian on a host: how it is entered for the first time, and the baseline every host gets."""
