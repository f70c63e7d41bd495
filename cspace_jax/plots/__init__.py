"""Figures: each function takes the dataset (and images) and returns a Matplotlib figure; `style.save` writes it."""
