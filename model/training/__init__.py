"""Training: the only part of `model` that may import PyTorch; reached from the command line, never while serving."""
