"""The machine that runs agents: a pure state over a log, and the one loop that performs its steps.

It knows ports, never adapters. Nothing outside `loom` should import from here.
"""
