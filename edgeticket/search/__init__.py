"""Search methods: one file each, one function `search(problem, ...)`. The folder is the registry. torch lives here."""
