"""Three concepts: in which order are four unseen classes learned, and which never (appendix C.4, Fig. 15)?"""

from cspace_jax.studies.three import get_config, sweep

__all__ = ["get_config", "sweep"]
