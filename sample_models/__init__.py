"""Small real tickets with golden inputs and outputs, and the digits data (DIGITS-LICENCE.txt)."""
