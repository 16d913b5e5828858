"""Data services as a host sees them: their clients, and what only SQL can set up in a managed one."""
