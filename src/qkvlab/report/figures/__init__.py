"""The pictures of a report, one idea per file; each is a `Drawing` in both languages."""
