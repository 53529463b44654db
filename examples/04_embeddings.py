"""A small sentence-embedding model, DisCo's two stages: python examples/04_embeddings.py TEACHER TEXTS PAIRS OUT

TEACHER: a sentence-embedding model. TEXTS: a file of texts, a line each (more is better; no labels). PAIRS: a file of
texts that belong together, with the columns anchor and positive. OUT: a new folder.
"""

import sys

import contrastill

teacher, texts, pairs, out = sys.argv[1:5]

student = contrastill.distill(method="disco", teacher=[teacher], texts=[texts], student="2L", out=f"{out}/disco")
print("nearest neighbours shared with the teacher:", student.metrics["student"].get("agreement"))

tuned = contrastill.contrast(model=student.model, pairs=pairs, batch_size=32, learning_rate=2e-5, out=f"{out}/contrast")
print("second texts found, before and after:", tuned.metrics.get("retrieval"))
print(f"from sentence_transformers import SentenceTransformer; SentenceTransformer({str(tuned.model)!r})")
