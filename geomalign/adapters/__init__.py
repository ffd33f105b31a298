"""Trainers that people already run, each in a module of its own. They translate; what is computed, the core computes.

Nothing here is imported by `import geomalign`, and a third party is imported only when its adapter is used.
"""
