"""What `excise export` does: a mask written in a form that servers without Excise know."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import masks
from edits import checkpoint_writer, ia3, peft

Form = Literal["peft", "ia3", "checkpoint"]


def export(
    mask: masks.Mask, model_dir: Path, folder: Path, form: Form, *, allow_other_base: bool = False
) -> dict[str, Any]:
    """Write `mask` of the model in `model_dir` into `folder`: as an adapter or as a corrected checkpoint.

    Returns what was written, as JSON values: with `bytes`, of a LoRA adapter `ranks` by module and `rank`, the
    largest, and of an IA³ adapter `inputs`, how many are gated, by module. Raises the errors of `masks.check` where
    the mask is not for this model, and those of `write` in `edits.peft`, `edits.ia3` or `edits.checkpoint_writer`.
    """
    model = masks.describe(model_dir)
    masks.check(mask, model, masks.parameters(model_dir), allow_other_base=allow_other_base)
    written = {"format": form, "folder": str(folder), "mask": mask.name, "digest": mask.digest, "model": model.id}
    more: dict[str, Any] = {}
    if form == "peft":
        ranks = peft.write(mask, model_dir, folder)
        more = {"rank": max(ranks.values()), "ranks": ranks}
    elif form == "ia3":
        more = {"inputs": ia3.write(mask, model_dir, folder)}
    else:
        checkpoint_writer.write(mask, model_dir, folder)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return {**written, "bytes": size, **more}
