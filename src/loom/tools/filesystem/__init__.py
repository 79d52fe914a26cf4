"""The parts of the file tools: opening beneath a root, walking, listing, reading and searching."""
