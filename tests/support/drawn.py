"""What figures have drawn."""


def panels(fig):
    """The axes of data, without bars of colours."""
    return [ax for ax in fig.axes if ax.get_label() != "<colorbar>" and ax.axison]
