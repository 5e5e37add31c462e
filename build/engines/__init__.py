"""Engines run a stage's units: in this process, in several, or on a Ray cluster. They are independent of the method."""
