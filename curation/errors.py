"""The three kinds of error a user can meet. A row that fails is data, never one of these."""


class CurationError(Exception):
    """Base of every error raised on purpose; its message says where, what, and how to mend it."""


class RecipeError(CurationError):
    """The recipe asks for something that cannot be done; raised before any work."""


class ContractError(CurationError):
    """Rows do not keep the contract of their table in `schemas/`."""


class StoreError(CurationError):
    """A table, version or file of the store is missing, damaged or not what its manifest says."""
