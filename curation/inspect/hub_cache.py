"""Which weights of the model hub are on this machine."""

from __future__ import annotations


def is_in_hub_cache(model: str) -> bool:
    """Whether the weights of a model of timm are in the cache of the hub.

    Args:
        model: as a recipe names it, such as `timm/vit_small_patch14_dinov2.lvd142m`.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(model, "model.safetensors"), str)
    except HFValidationError:
        # No repository can have this name; loading the model says so.
        return False
