"""`excise inspect`: what a mask says of itself."""

from __future__ import annotations

from commands import terminal
from commands.cli_options import Json, MaskFile
from commands.terminal import cut_count, describe_mask, measurements_table, print_json


def inspect(file: MaskFile, as_json: Json = False) -> None:
    """What a mask cuts, by layer, how it was made, and what it measured."""
    from rich.table import Table

    import masks

    mask = masks.load(file)
    if as_json:
        print_json(describe_mask(mask))
        return
    terminal.out.print(f"{mask.meta.name}  {cut_count(mask)} cut, made {mask.meta.created_at}", style="bold")
    for warning in mask.warnings:
        terminal.out.print(f"warning: {warning}", style="bold red", soft_wrap=True)
    base = mask.meta.base
    terminal.out.print(f"digest {mask.digest}", soft_wrap=True)
    terminal.out.print(f"base {base.id} ({base.architecture}), fingerprint {base.fingerprint}", soft_wrap=True)
    gated = ("cut", "to 1/4", "to 1/2") if mask.dampened else ("cut",)
    table = Table("where", *gated, "of", title="cuts")
    geometry = mask.meta.base.geometry
    for kind, cut, size in (("neurons", mask.neurons, geometry.neurons), ("heads", mask.heads, geometry.heads)):
        for layer in sorted(cut):
            gates = mask.gate_values(kind, layer)
            counts = [str(int((gates == gate).sum())) for gate in (0, 0.25, 0.5)[: len(gated)]]
            table.add_row(f"layer {layer}, {kind}", *counts, str(size))
    for parameter in sorted(mask.weights):
        rows, columns = mask.meta.shapes[parameter]
        none = ["0"] * (len(gated) - 1)
        table.add_row(parameter, str(len(mask.weight_indices(parameter))), *none, str(rows * columns))
    terminal.out.print(table)
    terminal.out.print_json(data={"made": describe_mask(mask)["made"]})
    terminal.out.print(measurements_table(mask))
