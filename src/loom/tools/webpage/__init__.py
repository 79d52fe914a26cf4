"""The parts of fetching a page: the guarded connection, the bounded body, the readable text."""
