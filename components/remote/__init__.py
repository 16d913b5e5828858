"""The only place that touches pulumi-command: connections, steps, and what receives a step on a host."""
