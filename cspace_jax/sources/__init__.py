"""Labelled pictures that a researcher brings: reading their labels, choosing concepts, decoding them once."""
