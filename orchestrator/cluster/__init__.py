"""Running a sweep on Ray: the only package that imports ray."""
