"""The same program with no cloud: twins of the provider plugins, real hosts, a small internet.

Knows nothing of the product's rooms (no import of config, components or systems): it sees only what the
Pulumi engine sends.
"""
