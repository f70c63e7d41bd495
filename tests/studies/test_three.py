"""The study of three concepts."""

from configs import study
from cspace_jax.config import from_config_dict


def test_three_concepts_train_on_four_classes_and_probe_all_eight():
    config = from_config_dict(study("three").get_config("paper"))
    assert (config.data.pool_images, config.data.train_images) == (8_192, 6_963)
    assert 8 * config.probe.images_per_class * len(config.probe.data) == 32_768
