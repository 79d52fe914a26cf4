"""Values that decide. They never act, ask the time or remember; the kernel carries them out."""
