"""Teachers of sentence embeddings: models, or a file of vectors."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.data.corpus import Corpus
from contrastill.data.vectors import VectorFile
from contrastill.loading import TRAINED, Length, input_length, load_config, load_tokenizer, locate
from contrastill.settings import EmbeddingDistillation
from contrastill.shapes import AS_IS
from contrastill.teachers import CachedEmbedder, SideBySide, VectorTeacher
from contrastill.training.plan import autocast_dtype

__all__ = ["from_file", "open_teachers", "with_vectors"]


def open_teachers(settings: EmbeddingDistillation, root: Path) -> tuple[SideBySide, Tokenizer, Length]:
    """The teachers, the student's tokenizer, and the length at which texts are cut."""
    stored, start = settings.cache_dtype, settings.start
    if settings.teacher_outputs is not None:
        file = VectorFile(settings.teacher_outputs, settings.text, settings.encoding, settings.delimiter)
        tokenizer = load_tokenizer(start)
        length = input_length(settings.max_length, start, tokenizer, load_config(locate(start)))
        return SideBySide([VectorTeacher(file, tokenizer, length.tokens, root, stored)]), tokenizer, length
    dtype = autocast_dtype(settings)
    teachers = SideBySide([CachedEmbedder(name, root, stored=stored, dtype=dtype) for name in settings.teacher])
    tokenizer = load_tokenizer(start) if settings.student == AS_IS else teachers.each[0].tokenizer
    return teachers, tokenizer, length_for(settings, teachers, tokenizer)


def from_file(teachers: SideBySide) -> bool:
    """Whether the teacher is a file of vectors."""
    return isinstance(teachers.each[0], VectorTeacher)


def with_vectors(corpus: Corpus, teachers: SideBySide) -> tuple[Corpus, str | None]:
    """The texts from which a student can learn: of a file of vectors, those that have one; and what is said of it."""
    first = teachers.each[0]
    if not isinstance(first, VectorTeacher):
        return corpus, None
    found = first.fill_for(corpus)
    said = f"{first.texts:,} vectors of {first.width} numbers in {first.name}; "
    said += f"{len(found):,} of {len(corpus):,} texts have one"
    return found, said + ("" if len(found) == len(corpus) else ", the others are left out")


def length_for(settings: EmbeddingDistillation, teachers: SideBySide, tokenizer: Tokenizer) -> Length:
    """The length at which student and teachers cut their texts, which all of them can read."""
    first, *_ = teachers.each
    config = getattr(first.live.transformer, "config", None)
    readers = [tokenizer, *(each.tokenizer for each in teachers.each)]
    length = input_length(settings.max_length, first.name, first.tokenizer, config, TRAINED, *readers)
    for each in teachers.each:
        each.max_length = length.tokens
    return length
