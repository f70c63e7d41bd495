"""Readers of labelled pictures that a researcher brings, the choice of concepts and the decoding of pictures."""
