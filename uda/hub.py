"""Whether the Hugging Face hub can be reached: its own client retries for half a minute before it says no."""

import urllib.error
import urllib.request

_TIMEOUT = 5.0  # seconds


def hub_is_reachable() -> bool:
    """One request to the hub's address (`HF_ENDPOINT`), none in its offline mode (`HF_HUB_OFFLINE`)."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        with urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=_TIMEOUT):
            return True
    except urllib.error.HTTPError:  # an answer, if not a friendly one
        return True
    except OSError:
        return False
