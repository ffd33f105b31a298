"""Trainers that people already run: one file or folder per trainer, with the configuration text that it exports.

Adapters translate; what is computed, the core computes. Nothing here is imported by `import geomalign`, and a trainer
is imported only when its adapter is used.
"""
