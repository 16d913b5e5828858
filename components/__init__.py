"""Reusable component resources: the cloud nouns and what runs on a host."""
