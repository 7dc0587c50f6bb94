"""Which parts of a network learn: all, all but the first stages, or the head alone.

A frozen part stays in eval mode while the rest trains: its BatchNorm statistics do not move, and its
dropout and stochastic depth are off.
"""

from collections.abc import Iterator
from typing import Literal

from torch import nn

from worker.training.network import Classifier, Head

#: Children that hold a network's stages as children of their own.
_STAGE_HOLDERS = frozenset({"features", "layers", "trunk_output", "blocks", "encoder", "encoder.layers"})

Freeze = Literal["backbone", "none"] | int


def stages(network: nn.Module, head: Head) -> list[str]:
    """Paths of the stages from input to output: children with parameters, the head left out.

    MobileNetV2 has ``features.0`` to ``features.18``; VGG's stages go on with the layers before its head.
    """
    return list(_stages_below(network, "", head))


def _stages_below(module: nn.Module, path: str, head: Head) -> Iterator[str]:
    for name, child in module.named_children():
        child_path = f"{path}.{name}".removeprefix(".")
        if child_path == head.layer:
            continue
        if child_path in _STAGE_HOLDERS or head.layer.startswith(f"{child_path}."):
            yield from _stages_below(child, child_path, head)
        elif next(child.parameters(), None) is not None:
            yield child_path


class Freezing:
    """Applies a spec's ``model.freeze`` to one network."""

    def __init__(self, classifier: Classifier, freeze: Freeze) -> None:
        self._classifier = classifier
        self._backbone = freeze == "backbone"
        number = freeze if isinstance(freeze, int) else 0
        paths = stages(classifier.module, classifier.head)
        self._frozen = [classifier.module.get_submodule(path) for path in paths[:number]]
        if not self._backbone and not number:
            return
        for parameter in classifier.module.parameters():
            parameter.requires_grad_(False)
        # Parameters that belong to no stage (a ViT's class token) come before the first one.
        learning = [classifier.module.get_submodule(path) for path in paths[number:]]
        for module in (*classifier.head_modules, *([] if self._backbone else learning)):
            module.requires_grad_(True)

    def train(self) -> None:
        """Training mode for what learns, eval mode for what is frozen."""
        self._classifier.module.train(not self._backbone)
        for module in self._classifier.head_modules:
            module.train()
        for module in self._frozen:
            module.eval()

    def frozen_tensors(self) -> set[str]:
        """Names in the state dict of what never changes: frozen parameters, and buffers in eval mode."""
        self.train()
        network = self._classifier.module
        names = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
        for path, module in network.named_modules():
            if not module.training:
                own = (name for name, _ in module.named_buffers(recurse=False))
                names |= {f"{path}.{name}".removeprefix(".") for name in own}
        return names & network.state_dict().keys()
