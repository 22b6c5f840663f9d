"""What `excise export` does: a mask written in a form that servers without Excise know."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import masks
from edits import checkpoint, peft

Form = Literal["peft", "checkpoint"]


def export(
    mask: masks.Mask, model_dir: Path, folder: Path, form: Form, *, allow_other_base: bool = False
) -> dict[str, Any]:
    """Write ``mask`` of the model in ``model_dir`` into ``folder``, as an adapter or as a corrected checkpoint.

    Returns what was written, as JSON values: with ``bytes``, and of an adapter ``ranks`` by module and ``rank``, the
    largest. Raises the errors of `masks.check` where the mask is not for this model, and of `edits.peft.write` or
    `edits.checkpoint.write`.
    """
    model = masks.describe(model_dir)
    masks.check(mask, model, masks.parameters(model_dir), allow_other_base=allow_other_base)
    written = {"format": form, "folder": str(folder), "mask": mask.name, "digest": mask.digest, "model": model.id}
    ranks: dict[str, Any] = {}
    if form == "peft":
        found = peft.write(mask, model_dir, folder)
        ranks = {"rank": max(found.values()), "ranks": found}
    else:
        checkpoint.write(mask, model_dir, folder)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {**written, "bytes": size, **ranks}
