"""The source of an exported recurrent language model; ``{…}`` are its architecture."""

LANGUAGE_MODEL = '''"""A recurrent language model in plain PyTorch, written by archgrad.

Architecture {digest}.

    from model import load, read
    model = load()
    logits, state = model(words)         # words: int64 [T, B], numbers of lines of vocabulary.txt from 0
    logits, state = model(more, state)   # logits: [T, B, V] of the word that follows each

On the command line, the most probable words that follow:  python model.py some words
"""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F

NODES = {nodes}
EDGES = {edges}  # (node, state before it, activation)
OUTPUT = {output}  # the output is the mean of these nodes
ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid, "identity": lambda h: h}
HERE = Path(__file__).parent


class Model(torch.nn.Module):
    """Embedding, recurrent cell, and a decoder that shares the embedding's matrix."""

    def __init__(self, weights):
        super().__init__()
        self.embedding = torch.nn.Parameter(weights["embedding.weight"])
        self.bias = torch.nn.Parameter(weights["decoder_bias"])
        self.first = torch.nn.Parameter(weights["core.first"])
        self.matrices = torch.nn.ParameterList(weights[f"core.matrices.{i}"] for i in range(NODES))

    def forward(self, words, state=None):
        if state is None:
            state = self.embedding.new_zeros(words.shape[1], self.embedding.shape[1])
        outputs = []
        for x in F.embedding(words, self.embedding):
            state = self.cell(x, state)
            outputs.append(state)
        return F.linear(torch.stack(outputs), self.embedding, self.bias), state

    def cell(self, x, state):
        """[B, H] and [B, H] -> [B, H]."""
        gate, new = (torch.cat([x, state], dim=1) @ self.first).chunk(2, dim=1)
        states = [state + torch.sigmoid(gate) * (torch.tanh(new) - state)]
        for node in range(1, NODES + 1):
            total = torch.zeros_like(state)
            for target, source, activation in EDGES:
                if target == node:
                    before = states[source]
                    gate, h = (before @ self.matrices[node - 1]).chunk(2, dim=1)
                    total = total + before + torch.sigmoid(gate) * (ACTIVATIONS[activation](h) - before)
            states.append(total)
        return torch.stack([states[node] for node in OUTPUT]).mean(dim=0)


def load(device="cpu"):
    """The model with its weights, in evaluation mode."""
    weights = torch.load(HERE / "weights.pt", map_location=device, weights_only=True)
    return Model(weights).to(device).eval()


def vocabulary():
    """The word of every number."""
    return (HERE / "vocabulary.txt").read_text(encoding="utf-8").split("\\n")[:-1]


def read(text):
    """The numbers of a text's words [T, 1]; words that are not in the vocabulary are <unk>."""
    numbers = {word: number for number, word in enumerate(vocabulary())}
    return torch.tensor([[numbers.get(word, numbers["<unk>"])] for word in text.split()])


if __name__ == "__main__":
    with torch.no_grad():
        logits, _ = load()(read(" ".join(sys.argv[1:]) or "<eos>"))
    names = vocabulary()
    for probability, number in zip(*torch.softmax(logits[-1, 0], dim=0).topk(min(5, len(names)))):
        print(f"{float(probability):.3f}  {names[int(number)]}")
'''
