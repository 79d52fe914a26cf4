"""What the framework itself costs, measured against a scripted model server on loopback.

Run ``python -m benchmarks --help``; how to read the figures is in ``docs/performance.md``. Nothing here is
part of the installed package, and nothing here asserts a time.
"""
