"""Tools of docs/cutover.md: they move a live application's data to the host they run on.

Standard library only, with `tasks/host` beside it: both are copied to the new host, and run there by
root with two `.env` files, the old one and the new. Passwords go by environment, never by command line.
"""
