"""Whether a file says that it was made of the weights it is compared with."""

from converter.core.metadata import FINGERPRINT_KEY
from converter.core.model import Model
from converter.parity.artifact import Artifact


def recorded(file: Artifact) -> str:
    """The fingerprint of the weights a file was made of, as it records it; empty where it records none."""
    if file.runtime is not None:
        return file.declared.metadata.get(FINGERPRINT_KEY, "")
    if file.proto is not None:
        return next((str(prop.value) for prop in file.proto.metadata_props if prop.key == FINGERPRINT_KEY), "")
    return str(file.inspection.model.stated.get(FINGERPRINT_KEY, ""))


def made_of_others(file: Artifact, reference: Model | None) -> str:
    """What is to be said where a file records other weights than the reference's; empty where there is nothing.

    It fails nothing: what the file's weights are is judged by themselves, and some ways there change them (an eps
    folded into norms).  A reference that was itself made by this tool may record those it was made of, too.
    """
    found = recorded(file)
    if not found or file.head or reference is None or not reference.fingerprint:
        return ""
    if found in (reference.fingerprint, reference.stated.get(FINGERPRINT_KEY)):
        return ""
    return (
        f"{file.name} records that it was made of weights with the fingerprint {found}; "
        f"that of the reference's is {reference.fingerprint}"
    )
