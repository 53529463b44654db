"""Losses of the prediction layer as loops over plain Python floats, and logits to compute them on."""

import math

import torch

STUDENT = torch.tensor([[0.3, -1.2, 2.0], [4.0, 0.5, -3.0], [0.0, 0.0, 0.0]])
TEACHER = torch.tensor([[1.0, -0.5, 0.2], [-2.0, 3.0, 1.0], [5.0, 5.0, 1.0]])


def softmax(logits, temperature=1.0):
    powers = [math.exp(x / temperature) for x in logits]
    return [p / sum(powers) for p in powers]


def slow_kl(student, teacher, temperature):
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        for p, q in zip(softmax(t, temperature), softmax(s, temperature), strict=True):
            total += p * (math.log(p) - math.log(q))
    return total / len(student)
