"""What events amount to: folds without I/O, clock or randomness, which kernel, stores and runtime share."""
