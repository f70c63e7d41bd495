"""The description of a battery of protocols lies beside its answers and tells what was asked."""

from typing import Any

from etils import epath

from cspace_jax.errors import UserError
from cspace_jax.storage import checked_json
from cspace_jax.storage.files import not_its_fault
from cspace_jax.storage.workdir import DESCRIPTION


def description(root: epath.Path) -> dict[str, Any]:
    """Return the description of the battery in a folder.

    It holds the "protocols" and "values" of its queries, "samples" and "controls".

    Raises:
      UserError: it is damaged.
    """
    try:
        described = checked_json.read(root / DESCRIPTION)
        found = {name: described[name] for name in ("protocols", "values", "samples")}
        return found | {"controls": described.get("controls", "")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        if why := not_its_fault(error):
            raise UserError(f"elicit: {root / DESCRIPTION} cannot be read ({why})") from error
        raise UserError(f"elicit: {root / DESCRIPTION} is damaged; remove {root} to measure it again") from error
