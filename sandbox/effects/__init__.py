"""What makes a recorded resource real. Without effects a twin only records (preview, pull requests)."""
