"""The figures of a report, one module a subject."""
