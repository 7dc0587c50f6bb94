"""Copies of tensors that training may go on without: taken in one pass into a few buffers that are reused.

A file of one large buffer is also written and read several times faster than one of a thousand small ones.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import torch

#: Tensors start at multiples of so many bytes: vector instructions and oneDNN are slower elsewhere.
ALIGNMENT = 64


class Snapshot:
    """The buffers for one tree of dicts, lists and tensors; another tree of the same shape reuses them."""

    def __init__(self, *, contiguous: bool = False, pinned: bool = False) -> None:
        """``contiguous`` gives copies the usual order of elements, whatever order is trained in.

        ``pinned`` buffers take copies from a GPU several times faster (page-locked memory).
        """
        self._contiguous = contiguous
        self._pinned = pinned
        self._buffers: dict[torch.dtype, torch.Tensor] = {}
        self._places: list[torch.Tensor] = []
        self._layout: list[Any] = []  #: what the places were made for

    def take(self, tree: Any) -> Any:
        """The same tree with copies for tensors, of equal values, types and shapes, on the CPU.

        Copies of the same type share one storage. They are overwritten by the next call.
        """
        tensors = [tensor.detach() for tensor in _tensors(tree)]
        layout = [(tensor.shape, tensor.stride(), tensor.dtype) for tensor in tensors]
        if layout != self._layout:
            self._places, self._layout = self._plan(tensors), layout
        with one_thread():
            if tensors:  # an optimizer has no state before its first step
                torch._foreach_copy_(self._places, tensors, non_blocking=self._pinned)
        if self._pinned:
            torch.cuda.synchronize()  # the copies are complete, and the next step may overwrite the originals
        places = iter(self._places)
        return _map(tree, lambda _: next(places))

    def _plan(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        """Where each copy goes, one after the other in the buffer of its type."""
        sizes: dict[torch.dtype, int] = {}
        for tensor in tensors:
            sizes[tensor.dtype] = sizes.get(tensor.dtype, 0) + _room(tensor)
        for dtype, size in sizes.items():
            if dtype not in self._buffers or self._buffers[dtype].numel() != size:
                self._buffers[dtype] = torch.zeros(size, dtype=dtype, pin_memory=self._pinned)
        used = dict.fromkeys(sizes, 0)
        places = []
        for tensor in tensors:
            strides = _strides(tensor, self._contiguous)
            places.append(self._buffers[tensor.dtype].as_strided(tensor.shape, strides, used[tensor.dtype]))
            used[tensor.dtype] += _room(tensor)
        return places


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """For a thousand small copies: each would wait for all threads, which takes long when a core is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


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
