"""Models taken away: files that other programs load without croplake."""
