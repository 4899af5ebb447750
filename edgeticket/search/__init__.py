"""Search methods: one file each. The folder is the registry. torch lives here. How to add one: docs/methods.md.

WEIGHT                                  the method's `MaskedWeight` (edgeticket/weights.py): how scores choose
search(job, settings, checkpoint)       trains `job.net` in place, by setting what a `Job` leaves to the method
"""
