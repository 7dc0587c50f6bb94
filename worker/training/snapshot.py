"""Copies of tensors that training may go on without: taken in one pass into a few buffers that are reused.

A file of one large buffer is also written and read several times faster than one of a thousand small ones.
"""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch

#: Tensors start at multiples of so many bytes: vector instructions and oneDNN are slower elsewhere.
ALIGNMENT = 64


class Snapshot:
    """The buffers for one tree of dicts, lists and tensors; another tree of the same shape reuses them."""

    def __init__(self, *, contiguous: bool = False) -> None:
        """``contiguous`` gives copies the usual order of elements, whatever order is trained in."""
        self._contiguous = contiguous
        self._buffers: dict[torch.dtype, torch.Tensor] = {}

    def take(self, tree: Any) -> Any:
        """The same tree with copies for tensors, of equal values, types and shapes, on the CPU.

        Copies of the same type share one storage. They are overwritten by the next call.
        """
        tensors = list(_tensors(tree))
        sizes: dict[torch.dtype, int] = {}
        for tensor in tensors:
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + _room(tensor)
        for dtype, size in sizes.items():
            if dtype not in self._buffers or self._buffers[dtype].numel() != size:
                self._buffers[dtype] = torch.zeros(size, dtype=dtype)
        used = dict.fromkeys(sizes, 0)

        def copy(tensor: torch.Tensor) -> torch.Tensor:
            strides = _strides(tensor, self._contiguous)
            place = self._buffers[tensor.dtype].as_strided(tensor.shape, strides, used[tensor.dtype])
            used[tensor.dtype] += _room(tensor)
            return place.copy_(tensor.detach())

        return _map(tree, copy)


def _room(tensor: torch.Tensor) -> int:
    """Elements that a copy takes up, rounded up to the alignment."""
    step = ALIGNMENT // tensor.element_size()
    return -(-tensor.numel() // step) * step


def _strides(tensor: torch.Tensor, contiguous: bool) -> tuple[int, ...]:
    """The tensor's own if they leave no gaps, as in channels_last; else, or if asked for, the usual ones."""
    extent = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    if extent == tensor.numel() and not contiguous:
        return tuple(tensor.stride())
    return tuple(torch.empty(tensor.shape, device="meta").stride())


def _tensors(tree: Any) -> Iterator[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from _tensors(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _tensors(value)


def _map(tree: Any, copy: Any) -> Any:
    if isinstance(tree, torch.Tensor):
        return copy(tree)
    if isinstance(tree, OrderedDict):
        mapped = OrderedDict((key, _map(value, copy)) for key, value in tree.items())
        mapped.__dict__.update(tree.__dict__)  # a state dict carries its modules' versions so
        return mapped
    if isinstance(tree, dict):
        return {key: _map(value, copy) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_map(value, copy) for value in tree)
    return tree
