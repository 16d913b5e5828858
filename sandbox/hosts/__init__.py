"""Real hosts: namespace, base images, containers, networks, firewall, and the effects that drive them."""
