"""What answers the public: nginx, its sites, and their certificates."""
