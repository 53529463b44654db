"""A teacher, a student of it, and what was kept: python examples/02_distill.py MODEL DATA OUT

MODEL: any encoder (Hub name or folder). DATA: a file or folder with the columns text and label. OUT: a new folder.
"""

import sys

import contrastill

model, data, out = sys.argv[1:4]
quick = {"data": data, "epochs": 2}  # leave epochs out for a good model

teacher = contrastill.finetune(model=model, out=f"{out}/teacher", **quick)
student = contrastill.distill(teacher=teacher.model, student="2L", out=f"{out}/student", **quick)

for split, share in student.metrics["kept"].items():
    print(f"{split}: {share:.1%} of the teacher's {student.metrics['metric']} kept")
print(f"{student.metrics['student']['size_mb']:.1f} MB of {student.metrics['teacher']['size_mb']:.1f} MB")
print(f"page: {student.folder / 'report.html'}")
