"""What tests of several files share."""

import shutil
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import tiny_c

signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # a background job of a shell ignores it, and so would what it starts


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real Chromium."""
    tiny_c.need("chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield started
        started.close()
