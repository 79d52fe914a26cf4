"""Model services: the port in ``base``, one adapter a wire beside it, and what the adapters share."""
