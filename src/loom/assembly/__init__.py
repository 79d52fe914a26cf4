"""Declaration -> engine: the one place that knows both what users write and which adapter does it."""
