"""The tier of faults: killed at every step, refused at every request, many at once, hostile files (docs/reliability.md)."""
