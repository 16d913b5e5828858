"""What runs on a host for its users: applications and their releases."""
