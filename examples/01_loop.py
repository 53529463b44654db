"""LRC-BERT in a plain PyTorch loop, without a Trainer: python examples/01_loop.py TEACHER DATA

TEACHER: a fine-tuned classifier (02_distill.py makes one). DATA: a file or folder with the columns text and label.
"""

import sys

import torch
from torch.utils.data import DataLoader

from contrastill import load_task, make_student
from contrastill.data.collate import Collate, tokenise
from contrastill.data.labels import align_labels
from contrastill.loading import load_classifier, load_tokenizer
from contrastill.methods import LRCBert
from contrastill.tasks import task_of_model

EPOCHS = 4
teacher, tokenizer = load_classifier(sys.argv[1]), load_tokenizer(sys.argv[1])
task = task_of_model(sys.argv[1], teacher.config)
data = align_labels(load_task(sys.argv[2]), task.names)
rows = tokenise(data.train, tokenizer, max_length=64)
loader = DataLoader(rows, 32, shuffle=True, drop_last=True, collate_fn=Collate(tokenizer, task.label_dtype))

student = make_student(teacher, tokenizer, "2L", "inherit", texts=data.train["text"])
method = LRCBert(student, teacher, task)
method.fit_bridges(batch for batch, _ in zip(loader, range(8), strict=False))
optimizer = torch.optim.AdamW(method.parameters(), lr=3e-4)
steps, step = EPOCHS * len(loader), 0
for _ in range(EPOCHS):
    for batch in loader:
        method.set_stage(step, steps)
        terms = method(**batch)
        terms["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        step += 1
    print(f"step {step} of {steps}, {method.stage.name}:", {name: round(float(x), 3) for name, x in terms.items()})
student.save_pretrained("runs/loop")
