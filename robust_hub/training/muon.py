"""timm's Muon with the weights of one shape orthogonalised together, and in float32 where bfloat16 is slow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from timm.optim.muon import (
    _COEFFICIENTS,
    Muon,
    _is_suitable_for_muon,
    get_lr_scale,
    resolve_ns_coefficients,
    zeropower_via_newtonschulz,
)
from torch import Tensor

from robust_hub.training.bf16 import has_fast_bf16


class BatchedMuon(Muon):
    """timm's Muon, fewer and larger matrix products.

    It takes timm's arguments and has timm's state: a saved state of the one goes on in the other. Weights of one
    device and shape are stacked, and one batched Newton-Schulz orthogonalises them. On a CPU with bfloat16 arithmetic a
    batched product with several threads differs from single ones in the last bits and gains nothing, so timm's own step
    is taken there. Newton-Schulz is in bfloat16, as timm's, or in float32 on a device without fast bfloat16.

    Source: Jordan et al. 2024; timm.optim.Muon.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; matrices here, all other parameters in timm's step, which sees no gradient of the matrices."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        hidden = []
        for group in self.param_groups:
            matrices = [p for p in group["params"] if p.grad is not None and self._is_batched(p, group)]
            self._step_matrices(matrices, group)
            hidden += [(p, p.grad) for p in matrices]
        for p, _ in hidden:
            p.grad = None
        super().step()  # type: ignore[no-untyped-call]
        for p, gradient in hidden:
            p.grad = gradient
        return loss

    @staticmethod
    def newton_schulz_dtype(device: torch.device) -> torch.dtype | None:
        """Give the type of batched Newton-Schulz on a device; None leaves the device's weights to timm's step."""
        if not has_fast_bf16(device):
            return torch.float32
        return torch.bfloat16 if device.type == "cuda" else None

    def _is_batched(self, p: Tensor, group: dict[str, Any]) -> bool:
        """Say whether a parameter is a matrix that is orthogonalised here, and note it as timm does."""
        plain = group["algo"] == "muon" and group["conv_mode"] == "flatten" and not group["capturable"]
        if not plain or (p.grad is not None and p.grad.is_sparse) or self.newton_schulz_dtype(p.device) is None:
            return False
        state = self.state[p]
        if "use_muon" not in state:
            fallback = group.get("use_fallback", False)
            state["use_muon"] = not fallback and group.get("use_muon", _is_suitable_for_muon(p))
        return bool(state["use_muon"])

    def _step_matrices(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        """Take the step of Muon on some parameters of a group, those of one shape together."""
        alike: dict[Any, list[Tensor]] = defaultdict(list)
        for p in matrices:
            alike[p.device, p.dtype, p.shape].append(p)
        for (_, dtype, shape), parameters in alike.items():
            stacked = self._orthogonalize(torch.stack(self._momenta(parameters, group)).flatten(2), group)
            scale = get_lr_scale(stacked.shape, group["adjust_lr_fn"]) if group["adjust_lr_fn"] else 1.0
            updates = list(stacked.to(dtype).reshape(-1, *shape).unbind())
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(parameters, updates, alpha=-group["lr"] * scale)

    def _orthogonalize(self, stacked: Tensor, group: dict[str, Any]) -> Tensor:
        """Take the steps of Newton-Schulz on matrices (N, m, n), in the type for their device."""
        dtype = self.newton_schulz_dtype(stacked.device)
        assert dtype is not None
        orthogonal: Tensor = zeropower_via_newtonschulz(
            stacked,
            group["ns_steps"],
            resolve_ns_coefficients(group["ns_coefficients"], _COEFFICIENTS),
            eps=group["eps"],
            safety_factor=group["safety_factor"],
            dtype=dtype,
            scale_eps=group["scale_eps"],
        )
        return orthogonal

    def _momenta(self, parameters: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """Move the momentum buffers by the gradients and give the updates before they are orthogonalised."""
        for p in parameters:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        gradients = [p.grad for p in parameters if p.grad is not None]
        buffers = [self.state[p]["momentum_buffer"] for p in parameters]
        torch._foreach_lerp_(buffers, gradients, 1.0 - group["momentum"])
        return list(torch._foreach_lerp(gradients, buffers, group["momentum"])) if group["nesterov"] else buffers


def batch_muon(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Give timm's Muon as a `BatchedMuon` of the same parameter groups, and any other optimizer as it is."""
    return BatchedMuon(optimizer.param_groups, **optimizer.defaults) if type(optimizer) is Muon else optimizer
