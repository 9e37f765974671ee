"""The cases; see ../run.py."""
