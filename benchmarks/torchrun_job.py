"""The job of the recovery benchmark as a plain training script, for torchrun to restart when it dies.

What its author would write to survive a kill: a checkpoint at the end of every epoch, written beside the old
one and renamed over it, and resumed from. One process needs no process group, so it has none; that, the
layout of the tensors and the fused optimizer are in its favour.
"""

import argparse
import os
import time
from pathlib import Path

import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--moments", type=Path, required=True)
    parser.add_argument("--arch", required=True)
    parser.add_argument("--image-size", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    arguments = parser.parse_args()

    restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    log = arguments.moments.open("a", buffering=1)

    def note(event: str, number: int) -> None:
        log.write(f"{time.monotonic():.6f} torchrun {restarts} {event} {number}\n")

    to_pixels = [
        transforms.Resize(round(arguments.image_size * 256 / 224)),
        transforms.CenterCrop(arguments.image_size),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ]
    train_data = torchvision.datasets.ImageFolder(
        arguments.data / "train", transforms.Compose([transforms.RandomHorizontalFlip(), *to_pixels])
    )
    val_data = torchvision.datasets.ImageFolder(arguments.data / "val", transforms.Compose(to_pixels))
    train_loader = DataLoader(train_data, arguments.batch_size, shuffle=True)
    val_loader = DataLoader(val_data, arguments.batch_size)

    torch.manual_seed(0)
    network = torchvision.models.get_model(arguments.arch, weights=None)
    *_, dropout, head = network.classifier
    dropout.p = 0.3
    network.classifier[-1] = nn.Linear(head.in_features, len(train_data.classes))
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    criterion = nn.CrossEntropyLoss()

    epochs_done = step = 0
    if arguments.checkpoint.exists():
        checkpoint = torch.load(arguments.checkpoint, weights_only=True)
        network.load_state_dict(checkpoint["model_state_dict"])
        optimizer.load_state_dict(checkpoint["optimizer_state_dict"])
        epochs_done, step = checkpoint["epoch"], checkpoint["step"]

    while epochs_done < arguments.epochs:
        network.train()
        for images, labels in train_loader:
            loss = criterion(network(images.contiguous(memory_format=torch.channels_last)), labels)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            note("step", step)

        network.eval()
        correct = 0
        with torch.inference_mode():
            for images, labels in val_loader:
                correct += int((network(images).argmax(1) == labels).sum())
        epochs_done += 1
        print(f"epoch {epochs_done}: {correct / len(val_data):.3f}", flush=True)
        temporary = arguments.checkpoint.with_suffix(".partial")
        torch.save(
            {
                "model_state_dict": network.state_dict(),
                "optimizer_state_dict": optimizer.state_dict(),
                "epoch": epochs_done,
                "step": step,
            },
            temporary,
        )
        temporary.replace(arguments.checkpoint)
        note("saved", step)


if __name__ == "__main__":
    main()
