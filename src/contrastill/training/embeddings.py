"""Plan of a distillation of sentence embeddings on texts without labels, and its saved model."""

import hashlib
import itertools
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase as Tokenizer
from transformers import set_seed

from contrastill.data.collate import flat
from contrastill.data.corpus import Corpus, TextTokens, read_corpus, several_texts, silent
from contrastill.errors import UserError
from contrastill.evaluation import size, spearman
from contrastill.evaluation.inference import inference
from contrastill.loading import (
    Length,
    highest_id,
    load_embedder,
    load_encoder,
    rows_of,
)
from contrastill.methods import METHODS, EmbeddingMethod, method_class, method_settings, read_settings
from contrastill.processes import bar_pause
from contrastill.report.evidence import of_vectors
from contrastill.report.neighbours import nearest, of_neighbours, shared
from contrastill.report.paired import by_row
from contrastill.results import RunResult, Scores
from contrastill.settings import Corpus as CorpusSettings
from contrastill.settings import EmbeddingDistillation
from contrastill.shapes import AS_IS
from contrastill.tasks import Embedding
from contrastill.teachers import SideBySide, cache_root, make_cache_folder
from contrastill.training import embedding_doubts
from contrastill.training.card import embedding_card
from contrastill.training.doubts import Remedies
from contrastill.training.embedding_teachers import from_file, open_teachers, with_vectors
from contrastill.training.folder import RunFolder
from contrastill.training.plan import CorpusPlan, autocast_dtype, scored_sets, shorten_queue
from contrastill.training.start import set_dropout, start_encoder, transformer_of
from contrastill.training.vocabulary import check_vocabulary
from contrastill.vocabulary import Trimming, trim

__all__ = ["EmbeddingPlan", "load_corpus", "plan_embedding"]

logger = logging.getLogger(__name__)

HELD_OUT = 512  # texts kept from training where there are no scored pairs to select by
NEAREST = 10  # neighbours of a text held out, on which student and teacher should agree
SAMPLE = 2048  # texts on which the compact projection orders its directions


class EmbeddingPlan(CorpusPlan):
    name = "student"
    teacher = None  # the method's is read from disk alone

    def __init__(
        self,
        settings: EmbeddingDistillation,
        tokenizer: Tokenizer,
        teachers: SideBySide,
        method: EmbeddingMethod,
        corpus: Corpus,
        scored: Any,
        length: Length,
        sets: Any = None,
    ) -> None:
        self.length = length
        self.settings, self.tokenizer, self.teachers = settings, tokenizer, teachers
        self.method = self.model = method
        self.dtype = autocast_dtype(settings)
        self.scored, self.sets = scored, sets
        held = held_out(corpus, scored)
        self.hold_out(corpus, held)
        self.metric = "spearman" if scored is not None else "agreement" if held > 3 else None
        self.untrained: float | None = None
        self.trimmed: str | None = None  # what was said of a vocabulary that was made smaller,
        self.told: str | None = None  # and of a teacher that is a file
        self.compared: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None  # texts held out, and their vectors
        self.cosines: dict[str, np.ndarray] = {}  # of the scored pairs, by whom

    @property
    def highest(self) -> int:
        sets = [*([self.scored] if self.scored is not None else []), *(self.sets or {}).values()]
        sides = (side for pairs in sets for side in (pairs.first, pairs.second))
        return max(super().highest, highest_id(self.tokenizer, rows_of(self.method.student.model), sides))

    def doubts(self, history: Sequence[Mapping[str, Any]], remedies: Remedies) -> list[str]:
        return embedding_doubts.of_distillation(self, history, remedies)

    def fingerprints(self) -> dict[str, str]:
        teachers = self.teachers.fingerprint
        return {"data_fingerprint": corpus_fingerprint(self.corpus), "teacher_fingerprint": teachers}

    def use_cache(self) -> None:
        """Runs each teacher on the texts whose vectors are not stored yet.

        Raises:
            UserError: a vector is not finite (its text is named), or the disk has no room.
        """
        settings = self.settings
        for n, teacher in enumerate(self.teachers.each):
            keys = self.corpus.keys(n)
            lacking = len(teacher.missing(keys))
            if not lacking:
                continue
            teacher.check_room(lacking)
            again = several_texts(settings.texts, **settings.reading(), say=silent)
            teacher.fill_rows(map(teacher.rows, again), len(self.corpus.content))
            if still := len(teacher.missing(keys)):
                raise UserError(f"expected the vectors of all texts, {still} are missing; did a file of texts change?")

    def fit_bridges(self) -> None:
        """Also notes the agreement with the teacher before training, as a reference for the trained one."""
        super().fit_bridges()
        if self.metric == "agreement":
            self.untrained = self.agreement()["agreement"]

    def trim_vocabulary(self) -> Trimming | None:
        """Reads all texts twice more: no longer than the model reads them, they do not tell all its pieces; and by the
        new tokenizer."""
        settings = self.settings
        if settings.vocabulary == "all":
            return None
        learnt, held = ({*part.rows.tolist()} for part in (self.examples, self.held))
        where, others = "the texts held out", [text for row, text in all_texts(settings) if row in held]
        if self.scored is not None:
            where, others = "the texts of dev", [*self.scored.first, *self.scored.second]
        texts = (text for row, text in all_texts(settings) if row in learnt)
        self.tokenizer, told = trim(self.method.student.model, self.tokenizer, texts, others)
        readers = [(each.tokenizer, each.prompt) for each in self.teachers.each]
        again = several_texts(settings.texts, **settings.reading(), say=silent)
        corpus = read_corpus(again, self.tokenizer, settings.max_length, readers)
        corpus, _ = with_vectors(corpus, self.teachers)
        if corpus_fingerprint(corpus) != corpus_fingerprint(self.corpus):
            raise UserError("expected the texts of the run's beginning, got others: a file of texts changed; resume")
        self.hold_out(corpus, len(self.held))
        self.trimmed = told.of(where)
        logger.info("%s", self.trimmed)
        return told

    @property
    def teacher_forwards(self) -> int:
        return sum(teacher.forwards for teacher in self.teachers.each)

    def describe(self) -> dict[str, Any]:
        about, told = super().describe(), {"vocabulary": self.trimmed, "teacher": self.told}
        return {**about, "decisions": about["decisions"] | {name: what for name, what in told.items() if what}}

    @property
    def check(self) -> Callable[[], Mapping[str, float]] | None:
        if self.metric is None:
            return None
        return partial(self.on_dev, "ours", self) if self.scored is not None else self.agreement

    def agreement(self) -> dict[str, float]:
        """The share of held-out texts' nearest neighbours by the teacher that are also nearest by the student; and
        the mean cosine of student and teacher.

        (A rank correlation over all pairs is mostly about texts that have nothing to do with each other, and did not
        follow the quality of search.)
        """
        order = np.argsort(self.held.lengths, kind="stable")
        s, t = self.both(self.held, order)
        self.compared = order, s.numpy(), t.numpy()
        k = neighbours(len(t))
        ours, theirs = ((x @ x.T).fill_diagonal_(-2.0).topk(k).indices for x in (s, t))
        shared = (ours.unsqueeze(2) == theirs.unsqueeze(1)).any(2).float().mean()
        return {"agreement": float(shared), "cosine": float((s * t).sum(1).mean())}

    def on_dev(self, who: str, model: Any) -> dict[str, float]:
        """Spearman of the scores and a model's cosines, which are kept. model: what can `encode`."""
        from contrastill.evaluation.sts import sts_similarities

        self.cosines[who] = sts_similarities(model, {"dev": self.scored})["dev"]
        return {"spearman": spearman(self.cosines[who], self.scored.scores)}

    def encode(self, texts: Sequence[str], **_: Any) -> np.ndarray:
        """(N,) texts -> (N, D_T): replaces SentenceTransformer.encode before the model is saved as one."""
        encoded = self.tokenizer(list(texts), truncation=True, max_length=self.settings.max_length)["input_ids"]
        corpus = flat_corpus(encoded, self.tokenizer)
        order = np.argsort(corpus.lengths, kind="stable")
        vectors = np.empty((len(order), self.teachers.width), np.float32)
        vectors[order] = self.vectors(corpus, order)
        return vectors

    def both(self, corpus: Corpus, order: np.ndarray) -> tuple[Tensor, Tensor]:
        """The student's projected unit vectors of these rows, and the teacher's."""
        teacher = torch.cat([self.teachers(corpus.batch(order[n : n + 64])).pooled for n in range(0, len(order), 64)])
        return self.vectors(corpus, order), F.normalize(teacher, dim=-1)

    def evidence(self) -> dict[str, Any] | None:
        """Cosines of student and teacher and each one's neighbours: of the texts held out, else of some it learnt
        from."""
        if self.compared is not None:
            (order, s, t), corpus, which = self.compared, self.held, "texts held out"
        else:
            corpus, which = self.examples, "texts of training"
            order = np.random.default_rng(self.settings.seed).permutation(len(corpus))[:HELD_OUT]
            s, t = (vectors.numpy() for vectors in self.both(corpus, order))

        def texts(picked: np.ndarray) -> list[list[str]]:
            return self.originals(corpus, order[picked])

        ours, theirs = (nearest(vectors, neighbours(len(order))) for vectors in (s, t))
        found = of_vectors((s * t).sum(1), texts, which) | {"neighbours": of_neighbours(ours, theirs, texts)}
        if self.compared is not None:
            read, agreed = [[text] for text in corpus.texts(np.sort(order))], shared(ours, theirs)[np.argsort(order)]
            return {**found, "by_row": {which: by_row("agreement", read, None, agreed, None)}}
        if self.scored is not None:
            every, scores = zip(self.scored.first, self.scored.second, strict=True), np.asarray(self.scored.scores)
            kept = by_row("spearman", every, scores, self.cosines["ours"], self.cosines.get("theirs"))
            return {**found, "by_row": {"dev": kept}}
        return found

    def originals(self, corpus: Corpus, rows: np.ndarray) -> list[list[str]]:
        """The texts of these rows as they stand in their files; as the tokenizer puts them together where a file has
        changed, or is on the Hub."""
        settings, wanted = self.settings, dict.fromkeys(corpus.rows[rows].tolist(), "")
        if all(Path(source).expanduser().is_file() for source in settings.texts):
            for number, text in itertools.islice(all_texts(settings), max(wanted, default=-1) + 1):
                if number in wanted:
                    wanted[number] = text
        found = []
        for row, read in zip(rows, corpus.texts(rows), strict=True):
            text, tokens = wanted[int(corpus.rows[row])], corpus.batch([row])["input_ids"][0].tolist()
            same = self.tokenizer(text, truncation=True, max_length=settings.max_length)["input_ids"] == tokens
            found.append([text if same else read])
        return found

    def vectors(self, corpus: Corpus, order: np.ndarray) -> Tensor:
        """The student's projected unit vectors of these rows."""
        method, found = self.method, []
        device = method.student.model.device
        with inference(method, self.dtype):
            for n in range(0, len(order), 64):
                batch = {key: value.to(device) for key, value in corpus.batch(order[n : n + 64]).items()}
                projected = method.project(method.student(batch, {"pooled"}).pooled)  # type: ignore[operator]
                found.append(F.normalize(projected.float(), dim=-1).cpu())
        return torch.cat(found).clone()

    def results(self) -> RunResult:
        student = self.method.student.model
        ours = {**(self.check() if self.check else {}), **size(student), "width": self.output_width}
        if self.projection is not None:
            ours["parameters"] += self.projection.numel()
            ours["size_mb"] += self.projection.numel() * 4 / 1e6
        theirs: dict[str, float] = {"width": self.teachers.width}
        if not from_file(self.teachers):
            sizes = [size(teacher.model) for teacher in self.teachers.each]
            theirs |= {key: sum(each[key] for each in sizes) for key in sizes[0]}
            if self.scored is not None:
                theirs |= self.on_dev("theirs", self.teachers)
        yardsticks = {}
        if self.untrained is not None:
            chance = neighbours(len(self.held)) / (len(self.held) - 1)
            yardsticks = {"untrained": self.untrained, "chance": chance}
        figures = {"train_rows": len(self.examples)}
        models = {"teacher": Scores({}, theirs), "student": Scores({}, ours)}
        sts = self.sts() if self.settings.sts else {}
        return RunResult(
            "sentence embeddings", self.metric, models=models, sts=sts, yardsticks=yardsticks, figures=figures
        )

    @property
    def output_width(self) -> int:
        own, theirs = self.method.student.width, self.teachers.width
        return {"keep": theirs, "drop": own, "compact": min(own, theirs)}[self.settings.projection]

    def save(self, folder: RunFolder) -> Path:
        return folder.save_model(self.name, self.write)

    def card(self, result: RunResult) -> str:
        return embedding_card(self.settings, result)

    def write(self, place: Path) -> None:
        """As a sentence-transformers model: transformer, pooling, projection (unless dropped), normalisation."""
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

        student = self.method.student.model
        student.save_pretrained(place)
        self.tokenizer.save_pretrained(place)
        modules: list[nn.Module] = [
            Transformer(str(place), max_seq_length=self.settings.max_length, model_kwargs={"use_safetensors": True}),
            Pooling(self.method.student.width, pooling_mode=self.settings.pooling),
        ]
        if self.projection is not None:
            out, width = self.projection.shape
            modules.append(
                Dense(width, out, bias=False, activation_function=nn.Identity(), init_weight=self.projection)
            )
        SentenceTransformer(modules=[*modules, Normalize()], device="cpu").save_pretrained(
            str(place), create_model_card=False, safe_serialization=True
        )

    def sts(self) -> dict[str, dict[str, float]]:
        """The table of the student as it is saved, and of its teachers, whose vectors come from the cache."""
        from contrastill.evaluation.sts import sts_scores

        assert self.sets is not None
        with tempfile.TemporaryDirectory() as place:
            self.write(Path(place))
            student = load_embedder(place)
        found = {"student": sts_scores(student, self.sets)}
        return found if from_file(self.teachers) else {**found, "teacher": sts_scores(self.teachers, self.sets)}

    @cached_property
    @torch.no_grad()
    def projection(self) -> Tensor | None:
        """(out, D_S): what follows the pooling; None: nothing does.

        "compact": with W the projection and S the second moment of pooled vectors, the (D_S, D_S) matrix R with
        R'R = W'W, its rows in order of how much of the vectors' energy they carry: cosines are those of the teacher's
        space, at the student's width, and the first N numbers of a vector are the best N.
        """
        if self.settings.projection == "drop":
            return None
        method: Any = self.method
        W = method.project.weight.detach().float().cpu()
        if self.settings.projection == "keep":
            return W
        some = np.random.default_rng(self.settings.seed).permutation(len(self.examples))[:SAMPLE]
        vectors = self.vectors(self.examples, some).double()  # (n, D_T)
        basis, triangle = torch.linalg.qr(W.double())  # W = QR: Rx has the lengths and angles of Wx
        inside = vectors @ basis
        _, turn = torch.linalg.eigh(inside.T @ inside)
        return (turn.flip(1).T @ triangle).float()


def held_out(corpus: Corpus, scored: Any) -> int:
    """The number of texts held out to select the checkpoint."""
    return 0 if scored is not None else min(HELD_OUT, len(corpus) // 10)


def plan_embedding(settings: EmbeddingDistillation) -> EmbeddingPlan:
    given = read_settings(settings.method, settings.set)
    check_choices(settings)
    root = cache_root(settings.cache)
    make_cache_folder(root)
    teachers, tokenizer, length = open_teachers(settings, root)
    settings = replace(settings, max_length=length.tokens)
    scored, sets = scored_sets(settings)
    corpus, told = with_vectors(
        load_corpus(settings, tokenizer, [(each.tokenizer, each.prompt) for each in teachers.each]), teachers
    )
    if told:
        logger.info("teacher: %s", told)
    set_seed(settings.seed)
    student = (
        load_encoder(settings.start)
        if settings.student == AS_IS
        else start_encoder(settings, transformer_of(teachers.each[0].live), tokenizer, corpus, root)
    )
    set_dropout(student, settings.dropout)
    check_vocabulary(settings, student, tokenizer)
    given = shorten_queue(method_settings(settings.method) | given, len(corpus) - held_out(corpus, scored))
    method: Any = method_class(settings.method)(student, teachers, Embedding(), **given)
    method.student.pooling = settings.pooling
    plan = EmbeddingPlan(settings, tokenizer, teachers, method, corpus, scored, length, sets)
    plan.told = told
    return plan


def check_choices(settings: EmbeddingDistillation) -> None:
    if not method_class(settings.method).serves(Embedding):
        known = ", ".join(name for name, cls in METHODS.items() if cls.serves(Embedding))
        raise UserError(f"expected a method for sentence embeddings ({known}), got {settings.method!r}")
    if settings.student.strip().startswith("static") and settings.pooling == "cls":
        raise UserError(
            f"expected --pooling mean for {settings.student}, got cls: without layers the first token is the same for "
            "every text"
        )


def load_corpus(
    settings: CorpusSettings, tokenizer: Tokenizer, teachers: Sequence[tuple[Tokenizer, str]] = (), **more: Any
) -> Corpus:
    """The texts that the settings name, of a length that is settled; what had to be said about them is logged.
    more: what else `read_corpus` takes."""
    assert settings.max_length is not None
    chunks = several_texts(settings.texts, **settings.reading())
    with tqdm(desc="reading texts", unit=" texts", dynamic_ncols=True, mininterval=bar_pause(), file=sys.stderr) as bar:
        corpus = read_corpus(chunks, tokenizer, settings.max_length, teachers, bar.update, **more)
    if corpus.duplicates:
        logger.info("%s repeated texts are left out", f"{corpus.duplicates:,}")
    return corpus


def all_texts(settings: CorpusSettings) -> Iterator[tuple[int, str]]:
    """The texts that the settings name once more, with their numbers; in silence."""
    chunks = several_texts(settings.texts, **settings.reading(), say=silent)
    return enumerate(itertools.chain.from_iterable(chunks))


def neighbours(texts: int) -> int:
    """The number of nearest neighbours that agreement counts, among so many texts."""
    return max(1, min(NEAREST, texts // 4))


def flat_corpus(encoded: Sequence[Sequence[int]], tokenizer: Tokenizer) -> Corpus:
    """Texts already tokenised, as a corpus without keys."""
    return Corpus(TextTokens(tokenizer, *flat(encoded)), content=np.zeros((len(encoded), 1, 16), np.uint8))


def corpus_fingerprint(corpus: Corpus) -> str:
    """A sha256 of the texts' keys, in their order."""
    return hashlib.sha256(corpus.content.tobytes()).hexdigest()
