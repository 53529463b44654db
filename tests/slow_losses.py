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


def slow_bucket_kl(student, teacher, temperature):
    """student: rows of logits. teacher: rows of (class's number -> probability, probability of all others); None: no
    answer."""
    total = 0.0
    for logits, answer in zip(student, teacher, strict=True):
        if answer is None:
            continue
        named, rest = answer
        ours, theirs = [], []
        chances = softmax(logits)
        for place, chance in named.items():
            ours.append(chances[place])
            theirs.append(chance)
        if len(named) < len(logits):
            ours.append(sum(chance for place, chance in enumerate(chances) if place not in named))
            theirs.append(rest)
        ours, theirs = ([chance ** (1 / temperature) for chance in side] for side in (ours, theirs))
        for p, q in zip(theirs, ours, strict=True):
            if p:
                total += p / sum(theirs) * (math.log(p / sum(theirs)) - math.log(q / sum(ours)))
    return total / len(student)
