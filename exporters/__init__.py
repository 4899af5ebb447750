"""Exporters: one file a format, `to_NAME.py`; the folder is the registry."""
