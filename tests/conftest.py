"""A shell's background job ignores SIGINT, and so would all that tests start: make it what it is in the foreground."""

import signal

signal.signal(signal.SIGINT, signal.default_int_handler)
