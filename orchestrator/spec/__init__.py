"""The fields of sweep files, and reading the files."""
