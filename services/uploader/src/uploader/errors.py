"""The errors of the uploader. Their type decides what happens to the item."""

from __future__ import annotations

from common.errors import DependencyDown, PermanentError
from common.storage.objects import NOT_CONFIGURED

STORE_LOOK_SECONDS = 60.0
"""Between two looks at the object store for people; the lanes look by their own holds."""


class StoreNotConfigured(DependencyDown):
    """There is no object store: the lane waits until a person sets one up."""

    code = "object-store-not-configured"

    def __init__(self) -> None:
        super().__init__(NOT_CONFIGURED, retry_after=STORE_LOOK_SECONDS)


class OtherStore(DependencyDown):
    """The item is for an object store that this uploader does not serve."""

    code = "object-store-other"

    def __init__(self, wanted: str, ours: str) -> None:
        super().__init__(
            f"These items are for the object store {wanted!r}, and this uploader serves {ours!r}. "
            "Mend OBJECT_BACKEND_NAME, or cancel the job.",
            retry_after=STORE_LOOK_SECONDS,
        )


class ItemInconsistent(PermanentError):
    """The item does not say the same of its file everywhere."""

    code = "item-inconsistent"
