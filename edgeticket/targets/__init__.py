"""What can measure an artifact: on_NAME.py with FORMATS, missing() and measure()."""
