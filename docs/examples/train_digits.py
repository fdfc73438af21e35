"""A plain training loop with a learned optimizer: digits, one hidden layer, 200 steps."""

from __future__ import annotations

import torch
from torch import nn

from l2l import LearnedOptimizer
from l2l.problems.datasets import load_images


def main(steps: int = 200) -> float:
    """Train and print; returns the accuracy on the test digits."""
    torch.manual_seed(0)
    train, test = load_images("mnist"), load_images("mnist", train=False)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 40), nn.Sigmoid(), nn.Linear(40, 10))
    optimizer = LearnedOptimizer(model.parameters(), "mnist-lstm")
    for step in range(1, steps + 1):
        rows = torch.randint(len(train.labels), (128,))
        loss = nn.functional.cross_entropy(
            model(train.pixels[rows].float() / 255), train.labels[rows]
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.3f}")
    with torch.no_grad():
        guesses = model(test.pixels.float() / 255).argmax(1)
    accuracy = (guesses == test.labels).float().mean().item()
    print(f"accuracy on test digits: {accuracy:.1%}")
    return accuracy


if __name__ == "__main__":
    main()
