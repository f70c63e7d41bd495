"""The network and the probe that compile fastest, as flags of the command, for studies whose numbers do not matter."""

NETWORK = ("--config.network.channels=(4,)", "--config.network.groups=2", "--config.network.attention=False")
PROBE = (
    "--config.probe.channels=(4,)",
    "--config.probe.groups=2",
    "--config.probe.heads=2",
    "--config.probe.out_channels=4",
)
FLAGS = (*NETWORK, *PROBE)
