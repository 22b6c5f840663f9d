"""Resident masks: what one worker of the engine knows of masks, and which of them are in its gates.

Takes the place of vLLM's LoRA manager in the worker (`LRUCacheWorkerLoRAManager`). vLLM's adapter machinery does the
rest: requests carry an adapter's number, the scheduler keeps a batch to as many as there are slots, the KV cache is
kept apart, and before each step the worker is told which token belongs to which number.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import masks
from service.engine.edited_model import EditedModel, GatePlan
from service.engine.gated_layers import Batch
from service.engine.low_rank import factors


class NotResidentError(RuntimeError):
    """A mask could not be brought into the engine as its file says."""


class ResidentMasks:
    """Brings masks into the gates and tells the gates, before each step, which token is under which mask.

    `slots` masks (vLLM's `max_loras`) are in the gates at one time; the least recently used makes room. A mask that
    was admitted stays known, as the few numbers that it takes to write its rows again, so that eviction needs no disk.
    """

    is_enabled = True

    def __init__(self, vllm_config: Any, device: torch.device, embedding_modules: object = None) -> None:
        scheduler, compilation = vllm_config.scheduler_config, vllm_config.compilation_config
        tokens = max(scheduler.max_num_batched_tokens, compilation.max_cudagraph_capture_size or 0)
        self.batch = Batch(tokens, vllm_config.lora_config.max_loras, device)
        self.evictions = 0
        self.fixed_weights = ""
        """Why masks of single weights cannot be applied per request on this engine, or empty."""
        if vllm_config.quant_config is not None:
            self.fixed_weights = "the model is quantised"
        elif device.type != "cpu":  # their factors would come out of memory that vLLM has given to the KV cache
            self.fixed_weights = "on an accelerator they can only be baked in"
        rank = vllm_config.additional_config["excise"]["max_weight_rank"]
        self._model = EditedModel(
            Path(vllm_config.model_config.model),
            vllm_config.model_config.dtype,
            self.batch,
            weighted=rank > 0 and not self.fixed_weights,
        )
        self._always = device.type != "cpu" and not compilation.cudagraph_specialize_lora
        self._known: dict[int, GatePlan] = {}
        self._slots: OrderedDict[int, int] = OrderedDict()
        """Mask's number → slot, the least recently used first."""
        self._free = list(range(self.batch.slots))
        self._written: dict[int, GatePlan] = {}
        """Slot → what is in it, of a mask that is there or was."""
        self._told: tuple[object, object] | None = None

    # What vLLM's model runner calls (v1/worker/lora_model_runner_mixin.py)

    def create_lora_manager(self, model: nn.Module, vllm_config: object = None) -> nn.Module:
        """Put gates into `model` and return it."""
        self._model.edit(model)
        return model

    def set_active_adapters(self, requests: set[Any], mapping: Any) -> None:
        """Before a step: the masks of the batch, and the number of each token's mask, 0 for none, in order.

        Raises:
            NotResidentError: the two contradict each other, which ends the engine.
        """
        needed = {request.lora_int_id for request in requests}
        for request in requests:
            if request.lora_int_id not in self._known:  # forgotten when the base weights were exchanged
                self.admit(request.lora_int_id, Path(request.lora_path))
            self._bring(request.lora_int_id, needed)
        layout = (mapping.index_mapping, tuple(self._slots.items()))
        if layout == self._told:
            return
        self._told = layout
        numbers = np.asarray(mapping.index_mapping, dtype=np.int64)
        place = np.full(max(self._slots, default=0) + 1, -1, dtype=np.int64)
        place[0] = self.batch.slots
        for number, slot in self._slots.items():
            place[number] = slot
        where = place[numbers]
        if (where < 0).any():  # never without its mask, in silence
            raise NotResidentError(
                f"a token of the batch is under a mask that is not in it: {sorted(set(mapping.index_mapping))}"
            )
        self.batch.index[: len(where)].copy_(torch.from_numpy(where), non_blocking=True)
        in_use = set(np.unique(numbers).tolist()) - {0}
        self.batch.gated = self._always or any(self._known[number].gates for number in in_use)
        self.batch.weighted = {
            self._slots[number]: torch.from_numpy(np.flatnonzero(numbers == number)).to(self.batch.index.device)
            for number in in_use
            if self._known[number].weights
        }

    def add_dummy_lora(self, request: Any, rank: int) -> bool:
        """A mask for vLLM's warm-up. It cuts nothing, but the gates work as for any other."""
        if request.lora_int_id in self._known:
            return False
        nothing = torch.empty(0, dtype=torch.long), torch.empty(0)
        self._known[request.lora_int_id] = GatePlan(dict.fromkeys(self._model.gated_methods, nothing))
        return True

    @contextlib.contextmanager
    def dummy_lora_cache(self) -> Iterator[None]:
        """Nothing to cache: those masks take no memory."""
        yield

    def get_dummy_lora_warmup_rank(self, default_rank: int) -> int:
        """Has no meaning here."""
        return default_rank

    def supports_tower_connector_lora(self) -> bool:
        """Masks are for language models."""
        return False

    def add_adapter(self, request: Any) -> bool:
        """Admit the mask whose file the request names, unless it is known."""
        known = request.lora_int_id in self._known
        if not known:
            self.admit(request.lora_int_id, Path(request.lora_path))
        return not known

    def remove_adapter(self, number: int) -> bool:
        """Forget a mask."""
        self._told = None
        if (slot := self._slots.pop(number, None)) is not None:
            self._free.append(slot)
        return self._known.pop(number, None) is not None

    def remove_all_adapters(self) -> None:
        """Forget every mask."""
        for number in list(self._known):
            self.remove_adapter(number)

    def list_adapters(self) -> set[int]:
        """The numbers of the known masks."""
        return set(self._known)

    def pin_adapter(self, number: int) -> bool:
        """Not offered: the least recently used mask always makes room."""
        raise NotImplementedError("masks cannot be pinned")

    # What the service asks (worker.py)

    @property
    def gated_layers(self) -> int:
        """How many layers of this rank have gates."""
        return len(self._model.gated_methods)

    @property
    def resident(self) -> int:
        """How many masks are in the gates."""
        return len(self._slots)

    def admit(self, number: int, path: Path) -> dict[str, Any]:
        """Read the mask file at `path`, named by its digest, and make it known as `number`.

        Returns the digest of what was read, and how many inputs and weights of this rank it changes. Raises
        `NotResidentError` for a file that holds another mask, and `masks.MaskError` or `OSError` for one that
        cannot be read; then nothing is known of it.
        """
        self.remove_adapter(number)
        mask = masks.load(path)
        if mask.digest != path.stem:
            raise NotResidentError(f"{path.name} holds mask {mask.digest}, not the one that it is named for")
        if mask.weights and not self._model.weighted:
            raise NotResidentError(f"the mask cuts single weights: {self.fixed_weights or 'they are switched off'}")
        plan = self._known[number] = self._model.plan(mask)
        return {"digest": mask.digest, "inputs": plan.inputs, "weights": plan.counted}

    def _bring(self, number: int, needed: set[int]) -> None:
        """Have a known mask in the gates, if need be in the place of one that is not needed now."""
        if number in self._slots:
            self._slots.move_to_end(number)
            return
        if not self._free:
            oldest = next((other for other in self._slots if other not in needed), None)
            if oldest is None:
                raise NotResidentError(
                    f"a batch has {len(needed)} masks, and the gates have room for {self.batch.slots}"
                )
            self._free.append(self._slots.pop(oldest))
            self.evictions += 1
        slot = self._free.pop()
        self._clear(slot)
        plan = self._known[number]
        for method, (columns, gates) in plan.gates.items():
            if method.gates is not None:
                method.gates[slot, columns.to(method.gates.device)] = gates.to(method.gates)
        for method, pieces in plan.weights.items():
            method.factors[slot] = factors(pieces, self._model.outputs[method], self.batch.index.device)
        self._written[slot] = plan
        self._slots[number] = slot

    def _clear(self, slot: int) -> None:
        if plan := self._written.pop(slot, None):
            for method in plan.gates:
                if method.gates is not None:
                    method.gates[slot] = 1
            for method in plan.weights:
                del method.factors[slot]
