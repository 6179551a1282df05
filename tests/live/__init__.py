"""The tests on the real kernel."""
