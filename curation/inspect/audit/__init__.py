"""Tests a finished run: injects edited copies of its images, and measures which of them dedup finds."""
