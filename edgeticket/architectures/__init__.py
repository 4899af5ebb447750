"""Networks by name: one file each, one function `plan(*sizes, input, classes)`. The folder is the registry."""
