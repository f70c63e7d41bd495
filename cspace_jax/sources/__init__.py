"""These modules read labelled pictures that a researcher brings, choose concepts and decode the pictures once."""
