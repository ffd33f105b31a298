"""Trainers that people already run: one file or folder per trainer, with the configuration text that it exports.

An adapter translates names and tensors and leaves every computation to the core. Nothing here is imported by
`import geomalign`, and a trainer is imported only when its adapter is used.
"""
