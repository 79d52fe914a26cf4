"""The rows that are in every run: two loops by hand and the two faces of Loom."""
