"""Operator tasks: what somebody on duty has to know of a running system and do to it; `python -m tasks`."""
