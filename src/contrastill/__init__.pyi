"""Contrastill: make a slow text encoder small and fast by contrastive knowledge distillation."""

# What editors and mypy read of `contrastill`, made from the settings by
# CONTRASTILL_REGENERATE=1 make test TESTS=tests/test_signatures.py

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import IO, Any, Literal

from contrastill.augmenting import Augmented as Augmented
from contrastill.data.load import load_task as load_task
from contrastill.encoder import Encoder as Encoder
from contrastill.encoder import Encoding as Encoding
from contrastill.errors import UserError as UserError
from contrastill.exporting.run import Exported as Exported
from contrastill.exporting.verify import Verified as Verified
from contrastill.labelling import Labelled as Labelled
from contrastill.memory import Rows as Rows
from contrastill.methods import METHODS as METHODS
from contrastill.methods import Method as Method
from contrastill.methods import Perturbed as Perturbed
from contrastill.methods import Stage as Stage
from contrastill.prediction import Predictions as Predictions
from contrastill.settings import Augmentation as Augmentation
from contrastill.settings import Bench as Bench
from contrastill.settings import CacheBuild as CacheBuild
from contrastill.settings import Contrast as Contrast
from contrastill.settings import Distillation as Distillation
from contrastill.settings import EmbeddingDistillation as EmbeddingDistillation
from contrastill.settings import Evaluation as Evaluation
from contrastill.settings import Export as Export
from contrastill.settings import Finetuning as Finetuning
from contrastill.settings import Labelling as Labelling
from contrastill.settings import LanguageDistillation as LanguageDistillation
from contrastill.settings import LanguageFinetuning as LanguageFinetuning
from contrastill.settings import Prediction as Prediction
from contrastill.settings import Pretraining as Pretraining
from contrastill.settings import Serving as Serving
from contrastill.settings import SuiteEvaluation as SuiteEvaluation
from contrastill.settings import Verification as Verification
from contrastill.students import make_student as make_student
from contrastill.studies import Study as Study
from contrastill.teachers import CachedTeacher as CachedTeacher
from contrastill.teachers import FrozenEncoder as FrozenEncoder
from contrastill.training import Interrupted as Interrupted
from contrastill.training import Run as Run
from contrastill.training.cache_build import Built as Built

__version__: str
__all__: list[str]

def augment(
    *,
    model: str | PathLike[str],
    out: str | PathLike[str],
    data: str | PathLike[str] | Rows | None = None,
    dev_share: float | None = None,
    encoding: str | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    task: str | type | None = None,
    separator: str | None = None,
    labels: str | list[str] | tuple[str, ...] | None = None,
    metric: str | None = None,
    dev: str | PathLike[str] | Rows | None = None,
    test: str | PathLike[str] | Rows | None = None,
    limit: int | None = None,
    delimiter: str | None = None,
    max_length: int | None = None,
    by: Literal['masked-lm', 'nearest'] | None = None,
    copies: int = 20,
    probability: float = 0.4,
    candidates: int = 15,
    common: float = 0.3,
    seed: int = 0,
    batch_size: int = 64,
    overwrite: bool = False,
) -> Augmented:
    """Makes further texts of training texts, by other words in place of some, for `distill(unlabelled=…)`.

    They have no labels. Texts that are in `out` are not made again.

    Raises:
        UserError: bad settings, data or model; the texts in `out` were made with other settings.

    The settings are those of `Augmentation`.

    Args:
        data: glue/TASK, a Hub data set, a folder (GLUE's, or train/dev/test files), or a file (csv, tsv, jsonl, parquet) [default: as in the teacher's run]
        dev_share: share of train held out when there is no dev file [default: as in the teacher's run on these data, else a tenth; of fewer than 1,000 rows up to a quarter, for 100 rows] [0 <= x <= 0.5]
        encoding: encoding of the text files [default: as in the teacher's run on these data, else utf-8]
        text: column of the (first) text
        text_pair: column of the second text, for pairs
        label: column of the label or score
        task: kind of labels, if the data do not show it: 'classification', 'regression', 'multilabel', 'tagging', or a task of your own, package.module:Class
        separator: character between the labels of a cell, with --task multilabel
        labels: class names in the order of their ids, once for each class
        metric: metric that selects the checkpoint [default: the task's first]
        dev: file of development examples [default: a share of train is held out]
        test: file of test examples, scored once, at the end
        limit: use at most this many training examples [1 <= x <= 1,000,000,000]
        delimiter: character between the fields of .csv and .tsv files, or 'tab' [default: by the file's name]
        max_length: longest input in tokens; longer texts are cut [default: as in the run that made the model, else the smaller of the model's own limit and 128] [2 <= x <= 1,048,576]
        model: Hub name or folder of the model that proposes the words: the teacher, a masked language model, any encoder
        by: 'masked-lm' (the likeliest words in the context) or 'nearest' (the words with the nearest vectors in the model's table) [default: masked-lm if the model has a head for it]
        copies: further texts of each row [1 <= x <= 1,000]
        probability: probability with which a word is replaced [0 < x <= 1]
        candidates: words of which one takes a word's place [1 <= x <= 1,000]
        common: leave the commonest words as they are, as many as make up this share of all words of the texts, and take none of them for a near word; 0: any word is replaced [0 <= x < 1]
        seed: seed of the words that are replaced, and by which [0 <= x <= 4,294,967,295]
        batch_size: masked texts computed at a time [1 <= x <= 1,000,000]
        out: file of the texts: .csv or .jsonl; the same call goes on where one ended
        overwrite: delete the texts in the output file, and begin anew
    """

def bench(
    *,
    model: str | PathLike[str] | list[str] | tuple[str, ...] | None = None,
    run: str | PathLike[str] | None = None,
    runtime: Literal['torch', 'onnx', 'openvino'] | list[Literal['torch', 'onnx', 'openvino']] | tuple[Literal['torch', 'onnx', 'openvino'], ...] | None = None,
    precision: Literal['fp32', 'bf16', 'int8'] | list[Literal['fp32', 'bf16', 'int8']] | tuple[Literal['fp32', 'bf16', 'int8'], ...] = ...,
    streams: bool = True,
    texts: str | PathLike[str] | None = None,
    text: str | None = None,
    encoding: str = 'utf-8',
    delimiter: str | None = None,
    limit: int | None = None,
    length: int | list[int] | tuple[int, ...] | None = None,
    new_tokens: int = 32,
    batch: int | list[int] | tuple[int, ...] = ...,
    threads: int | None = None,
    seconds: float = 3.0,
    out: str | PathLike[str] | None = None,
) -> dict[str, Any]:
    """Times models in turns. Returns the content of `out`.

    The settings are those of `Bench`.

    Args:
        model: Hub name or folder of a classifier, sentence-embedding model or language model, a bundle, or a shape with random weights (random:bert-base, random:4L-312); once for each, the first is the reference; NAME=FOLDER names it
        run: a run's folder: its teacher, its student and the bundles in it, on its own dev texts
        runtime: torch, onnx, openvino; once for each [default: all three; torch and the bundles with --run]
        precision: fp32, bf16, int8; once for each [default: all three]
        streams: time OpenVINO's batches a second time, split over as many streams as there are threads
        texts: file of texts, or Hub data set: times batches of texts as they are
        text: column of the texts, if the file has columns
        encoding: encoding of the file
        delimiter: character between the fields of .csv and .tsv files, or 'tab' [default: by the file's name]
        limit: texts that are drawn and timed [default: 256; of a language model's prompts 32] [1 <= x <= 1,000,000,000]
        length: tokens of made-up texts; once for each [default: 128, or none with texts] [1 <= x <= 1,048,576]
        new_tokens: tokens that a language model writes after each text, which is its prompt [1 <= x <= 100,000]
        batch: texts at a time; once for each [default: 1 and 32] [1 <= x <= 1,000,000]
        threads: CPU threads [default: every core] [1 <= x <= 4,096]
        seconds: time for each row, at least; slow models take longer [0 < x <= 86,400]
        out: file for the result as JSON [default with --run: RUN/bench.json]
    """

def build_cache(
    *,
    texts: str | PathLike[str] | list[str] | tuple[str, ...] | Rows,
    teacher: str | PathLike[str],
    text: str | None = None,
    limit: int | None = None,
    encoding: str = 'utf-8',
    delimiter: str | None = None,
    max_length: int | None = None,
    fields: str | list[str] | tuple[str, ...] | None = None,
    cache: str | PathLike[str] | None = None,
    cache_dtype: Literal['float16', 'bfloat16', 'int8', 'float32'] = 'float16',
) -> Built:
    """Stores a teacher's outputs for every text of a corpus; outputs stored already are not computed again.

    The settings are those of `CacheBuild`.

    Args:
        texts: file of texts (a line each; or .csv .tsv .jsonl .parquet with --text; .gz .xz), or Hub data set; once for each source
        text: column of the texts, if the file has columns
        limit: read at most this many texts [1 <= x <= 1,000,000,000]
        encoding: encoding of the text files
        delimiter: character between the fields of .csv and .tsv files, or 'tab' [default: by the file's name]
        max_length: longest input in tokens; longer texts are cut [default: as in the run that made the model, else the smaller of the model's own limit and 128] [2 <= x <= 1,048,576]
        teacher: Hub name or folder: a classifier, an encoder, or a sentence-embedding model
        fields: what to store: vector, logits, layer-N-tokens, layer-N-cls, layer-N-mean; once for each
        cache: folder of the cache [default: $CONTRASTILL_CACHE or ~/.cache/contrastill]
        cache_dtype: type the outputs are stored in: float16, bfloat16, int8 or float32
    """

def compare(
    runs: Sequence[str | Path],
    out: str | Path = 'comparison.html',
    to: str | Path | None = None,
) -> Path:
    """Writes one page of several runs' folders, side by side (of a single run: its report), and returns its path.

    to: the run to which the differences of the others are given, by default the first.
    """

def contrast(
    *,
    out: str | PathLike[str],
    model: str | PathLike[str],
    pairs: str | PathLike[str] | Rows,
    epochs: float = 1.0,
    batch_size: int = 128,
    accumulate: int = 1,
    learning_rate: float | None = 5e-05,
    schedule: Literal['linear', 'constant'] = 'linear',
    warmup: float = 0.05,
    weight_decay: float = 0.01,
    max_grad_norm: float = 1.0,
    checks: int = 10,
    patience: int | None = None,
    seed: int = 0,
    precision: Literal['auto', 'bf16', 'fp32'] = 'auto',
    report_to: str = 'none',
    keep_checkpoints: bool = False,
    overwrite: bool = False,
    force: bool = False,
    columns: str | list[str] | tuple[str, ...] | None = None,
    unsupervised: bool = False,
    method: Literal['simcse', 'distillcse'] = 'simcse',
    scale: float = 20.0,
    chunk: int | None = None,
    anchor: str | PathLike[str] | list[str] | tuple[str, ...] | None = None,
    anchor_weight: float = 1.0,
    set: Mapping[str, Any] = ...,
    perturb: Literal['none', 'l2-per-token'] | None = None,
    epsilon: float = 0.1,
    cache: str | PathLike[str] | None = None,
    dev: str | PathLike[str] | Rows | None = None,
    dev_share: float = 0.1,
    sts: str | PathLike[str] | None = None,
    limit: int | None = None,
    encoding: str = 'utf-8',
    delimiter: str | None = None,
    max_length: int | None = None,
    resume: bool = False,
) -> Run:
    """Trains a sentence-embedding model on texts that belong together; the method is `SimCSE` or `DistillCSE`.

    resume: continues the interrupted run in `out`. Raises as `finetune` does.

    The settings are those of `Contrast`.

    Args:
        out: folder for the run: student/, report.html, metrics.json, run.json, checkpoints/, log.jsonl
        epochs: passes over the pairs [0 < x <= 100,000]
        batch_size: pairs a step, over all processes [2 <= x <= 1,000,000]
        accumulate: split each batch into this many parts, which saves memory [1 <= x <= 1,000,000]
        learning_rate: highest learning rate [0 < x <= 1]
        schedule: 'linear' or 'constant'
        warmup: share of the steps over which the learning rate rises [0 <= x < 1]
        weight_decay: AdamW's weight decay [0 <= x <= 1,000]
        max_grad_norm: gradient clipping; 0: none [0 <= x <= 1,000,000]
        checks: number of times that the run is scored on dev and saved [1 <= x <= 100,000]
        patience: end after so many checks in a row without a better dev score; only those of the last stage count. The learning rate falls as in the whole run, and has not reached 0 then [1 <= x <= 100,000]
        seed: seed of initial weights, order of texts, and dropout [0 <= x <= 4,294,967,295]
        precision: 'bf16', 'fp32', or 'auto' (bf16 where the machine computes it faster)
        report_to: experiment tracker: tensorboard, wandb, mlflow, trackio, … (as transformers' report_to)
        keep_checkpoints: keep checkpoints/, with the optimizer's state, when the run has finished
        overwrite: replace the run in the output folder
        force: start although a check before training failed
        model: Hub name or folder of the sentence-embedding model
        pairs: file (.csv .tsv .jsonl .parquet; .gz .xz) or Hub data set of texts that belong together: anchor, positive and, if there is one, hard negative; with --unsupervised a corpus of texts
        columns: columns of anchor, positive and hard negative, in that order; once for each [default: the usual names]
        unsupervised: SimCSE: the positive of a text is the same text under another dropout mask
        method: 'simcse', or 'distillcse', which learns the anchor's similarities with noise and at temperatures of their own
        scale: factor of the cosines (1 / temperature) [0 < x <= 10,000]
        chunk: texts in memory at once: large batches by a gradient cache, with the same gradient [1 <= x <= 1,000,000]
        anchor: teacher whose similarities the model keeps during training (Hub name or folder; may be the model itself); those of several are averaged
        anchor_weight: weight of the anchor's term [0 < x <= 1,000,000]
        set: another setting of the method, such as queue, as name=value
        perturb: add a step along the gradient to the embeddings: 'none' (the raw gradient) or 'l2-per-token'
        epsilon: size of the perturbation: length of a token's step, or factor of the raw gradient (1 in LRC-BERT's paper) [0 < x <= 1,000,000]
        cache: folder of the anchor's vectors [default: $CONTRASTILL_CACHE or ~/.cache/contrastill]
        dev: scored pairs that select the checkpoint; by default the last one is kept
        dev_share: share of the pairs held out when there is no dev file, 500 at most: the page ranks them; 0 for none [0 <= x <= 0.5]
        sts: 'hub', or a folder with the seven STS sets: score them at the end
        limit: use at most this many rows [2 <= x <= 1,000,000,000]
        encoding: encoding of the text files
        delimiter: character between the fields of .csv and .tsv files, or 'tab' [default: by the file's name]
        max_length: longest input in tokens; longer texts are cut [default: as in the run that made the model, else the smaller of the model's own limit and 128] [2 <= x <= 1,048,576]
    """

def distill(
    *,
    out: str | PathLike[str],
    data: str | PathLike[str] | Rows | None = None,
    dev_share: float | None = None,
    encoding: str | None = None,
    epochs: float | None = None,
    batch_size: int = 32,
    accumulate: int = 1,
    learning_rate: float | None = None,
    schedule: Literal['stages', 'linear', 'constant'] = 'stages',
    warmup: float = 0.05,
    weight_decay: float = 0.01,
    max_grad_norm: float = 1.0,
    checks: int = 10,
    patience: int | None = None,
    seed: int = 0,
    precision: Literal['auto', 'bf16', 'fp32'] = 'auto',
    report_to: str = 'none',
    keep_checkpoints: bool = False,
    overwrite: bool = False,
    force: bool = False,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    task: str | type | None = None,
    separator: str | None = None,
    labels: str | list[str] | tuple[str, ...] | None = None,
    metric: str | None = None,
    dev: str | PathLike[str] | Rows | None = None,
    test: str | PathLike[str] | Rows | None = None,
    limit: int | None = None,
    delimiter: str | None = None,
    max_length: int | None = None,
    preset: Literal['quick', 'good', 'best'] = 'good',
    minutes: float | None = None,
    vocabulary: Literal['all', 'texts'] = 'all',
    class_weights: str | PathLike[str] | None = None,
    average: int | None = None,
    teacher: str | PathLike[str] | list[str] | tuple[str, ...] | None = None,
    teacher_outputs: str | PathLike[str] | Rows | None = None,
    method: str | type | None = None,
    student: str = '4L-312',
    start: str | PathLike[str] | None = 'inherit',
    set: Mapping[str, Any] = ...,
    stages: Mapping[str, float] = ...,
    perturb: Literal['none', 'l2-per-token'] | None = None,
    epsilon: float = 0.1,
    unlabelled: str | PathLike[str] | Rows | None = None,
    with_baseline: bool = False,
    cache: str | PathLike[str] | None = None,
    cache_dtype: Literal['float16', 'bfloat16', 'int8', 'float32'] | Literal['float16', 'bfloat16', 'float32'] = 'float16',
    texts: str | PathLike[str] | list[str] | tuple[str, ...] | Rows | None = None,
    pooling: Literal['mean', 'cls'] = 'mean',
    projection: Literal['compact', 'keep', 'drop'] = 'compact',
    dropout: float = 0.0,
    sts: str | PathLike[str] | None = None,
    prompt: str | None = None,
    answer: str | None = None,
    messages: str | None = None,
    chat: bool = False,
    new_tokens: int | None = None,
    top_k: int = 64,
    select: Literal['kl', 'perplexity', 'exact_match', 'rouge_l', 'own_nats'] = 'kl',
    resume: bool = False,
) -> Run:
    """Distils a teacher of a task (or, with such a method, of sentence embeddings or a language model) into a student.

    resume: continues the interrupted run in `out`. Raises as `finetune` does.

    The settings are those of `Distillation` and `EmbeddingDistillation` and `LanguageDistillation`.

    Args:
        data: glue/TASK, a Hub data set, a folder (GLUE's, or train/dev/test files), or a file (csv, tsv, jsonl, parquet) [default: as in the teacher's run] [LanguageDistillation: <class 'inspect._empty'>] [Distillation and LanguageDistillation alone]
        dev_share: share of train held out when there is no dev file [default: as in the teacher's run on these data, else a tenth; of fewer than 1,000 rows up to a quarter, for 100 rows] [0 <= x <= 0.5] [Distillation and LanguageDistillation alone]
        encoding: encoding of the text files [default: as in the teacher's run on these data, else utf-8] [EmbeddingDistillation: 'utf-8'] [LanguageDistillation: 'utf-8']
        out: folder for the run: student/, report.html, metrics.json, run.json, checkpoints/, log.jsonl
        epochs: passes over the training texts, instead of --preset or --minutes [default: as many as --preset says] [0 < x <= 100,000] [EmbeddingDistillation: 1.0] [LanguageDistillation: 3.0]
        batch_size: examples a step, over all processes [1 <= x <= 1,000,000] [EmbeddingDistillation: 128]
        accumulate: split each batch into this many parts, which saves memory [1 <= x <= 1,000,000]
        learning_rate: highest learning rate [default: by the width of the trained model] [0 < x <= 1] [EmbeddingDistillation: 0.001]
        schedule: learning rate: 'stages' (constant, then decay in the last stage), 'linear' (one decay) or 'constant' [EmbeddingDistillation: 'linear']
        warmup: share of the steps over which the learning rate rises [0 <= x < 1]
        weight_decay: AdamW's weight decay [0 <= x <= 1,000]
        max_grad_norm: gradient clipping; 0: none [0 <= x <= 1,000,000]
        checks: number of times that the run is scored on dev and saved [1 <= x <= 100,000]
        patience: end after so many checks in a row without a better dev score; only those of the last stage count. The learning rate falls as in the whole run, and has not reached 0 then [1 <= x <= 100,000]
        seed: seed of initial weights, order of texts, and dropout [0 <= x <= 4,294,967,295]
        precision: 'bf16', 'fp32', or 'auto' (bf16 where the machine computes it faster)
        report_to: experiment tracker: tensorboard, wandb, mlflow, trackio, … (as transformers' report_to)
        keep_checkpoints: keep checkpoints/, with the optimizer's state, when the run has finished
        overwrite: replace the run in the output folder
        force: start although a check before training failed
        text: column of the (first) text [Distillation and EmbeddingDistillation alone]
        text_pair: column of the second text, for pairs [Distillation alone]
        label: column of the label or score [Distillation alone]
        task: kind of labels, if the data do not show it: 'classification', 'regression', 'multilabel', 'tagging', or a task of your own, package.module:Class [Distillation alone]
        separator: character between the labels of a cell, with --task multilabel [Distillation alone]
        labels: class names in the order of their ids, once for each class [Distillation alone]
        metric: metric that selects the checkpoint [default: the task's first] [Distillation alone]
        dev: file of development examples [default: a share of train is held out]
        test: file of test examples, scored once, at the end [Distillation and LanguageDistillation alone]
        limit: use at most this many training examples [1 <= x <= 1,000,000,000]
        delimiter: character between the fields of .csv and .tsv files, or 'tab' [default: by the file's name]
        max_length: longest input in tokens; longer texts are cut [default: as in the run that made the model, else the smaller of the model's own limit and 128] [2 <= x <= 1,048,576]
        preset: length of the run: 'quick' (one pass, at least 60 steps), 'good' (4 passes, at least 200 steps) or 'best' (10 passes, at least 600 steps) [Distillation alone]
        minutes: train for about so many minutes instead [0 < x <= 100,000] [Distillation alone]
        vocabulary: pieces of words that the saved model knows: 'all' of its tokenizer's, or those of the training 'texts' and single characters, which makes it smaller
        class_weights: weights of the classes in the label loss: 'balanced' (rare classes count as much as common ones), or a JSON file, {class: weight}; with several labels a text they weigh the rows that have the label [Distillation alone]
        average: keep the mean of the weights at the last so many checks (of the last stage), unless the best checkpoint leads it on dev by more than a standard error [2 <= x <= 1,000] [Distillation alone]
        teacher: folder of the fine-tuned teacher, or of the run that made it, or Hub name [LanguageDistillation: <class 'inspect._empty'>]
        teacher_outputs: in place of --teacher: file (.jsonl .parquet .csv .tsv; .gz .xz) with a teacher's answers: texts, and probabilities, logits, top, labels, label with confidence, score or spans (docs/teacher-outputs.md) [Distillation and EmbeddingDistillation alone]
        method: distillation method (see `contrastill methods`), or your own: package.module:Class [default: lrc_bert; kd with --teacher-outputs or for a student without layers] [EmbeddingDistillation: 'disco'] [LanguageDistillation: 'gkd']
        student: shape: 4L-312, 6L-768, 3L (layers of the teacher's width), or layers/hidden/heads/ffn; then +e128 (narrower word tables) or +shared (one layer's weights for all), or both; or static-256 (word vectors without layers); or, with a folder or Hub name as --start, 'as-is' [LanguageDistillation: 'as-is']
        start: random, copy, inherit, the folder of a distilled student, or with --student as-is any encoder, with its own tokenizer [LanguageDistillation: None]
        set: a setting of the method, as name=value
        stages: a stage's share of the run, as name=share [0 <= x <= 1] [Distillation and LanguageDistillation alone]
        perturb: add a step along the gradient to the embeddings: 'none' (the raw gradient) or 'l2-per-token' [Distillation alone]
        epsilon: size of the perturbation: length of a token's step, or factor of the raw gradient (1 in LRC-BERT's paper) [0 < x <= 1,000,000] [Distillation alone]
        unlabelled: file of further texts without labels, used by every loss except the label loss [Distillation alone]
        with_baseline: train the same student on the labels alone too, in OUT/baseline: same start, labelled rows, order and steps; scores and page have it beside the student (with --resume, of a finished run too) [Distillation and LanguageDistillation alone]
        cache: folder of stored teacher outputs, shared by all runs ($CONTRASTILL_CACHE, else ~/.cache/contrastill); 'none': run the teacher in every step
        cache_dtype: type the outputs are stored in: float16, bfloat16, int8 or float32
        texts: file of texts (a line each; or .csv .tsv .jsonl .parquet with --text; .gz .xz), or Hub data set; once for each source [default: those of --teacher-outputs] [EmbeddingDistillation alone]
        pooling: a text's vector: 'mean' of its tokens, or 'cls' [EmbeddingDistillation alone]
        projection: projection to the teacher's space in the saved model: 'compact' (vectors of the student's width with the cosines of the teacher's space), 'keep' (vectors in the teacher's space, for an index built by the teacher), 'drop' (the student's own space) [EmbeddingDistillation alone]
        dropout: dropout of the student during training [0 <= x < 1] [EmbeddingDistillation alone]
        sts: 'hub', or a folder with the seven STS sets: score them at the end [EmbeddingDistillation alone]
        prompt: column of the prompt [LanguageDistillation alone]
        answer: column of the answer [LanguageDistillation alone]
        messages: column of whole conversations (role, content); the last message is the answer [LanguageDistillation alone]
        chat: write prompts and answers by the tokenizer's chat template [LanguageDistillation alone]
        new_tokens: longest answer that is written, in tokens [default: that of the training answers] [1 <= x <= 100,000] [LanguageDistillation alone]
        top_k: likeliest words of the teacher that are stored for each token of a given answer, with the mass of all others; 0: all words [0 <= x <= 10,000,000] [LanguageDistillation alone]
        select: metric on dev that selects the checkpoint [LanguageDistillation alone]
    """

def evaluate(
    *,
    data: str | PathLike[str] | Rows,
    model: str | PathLike[str],
    dev_share: float | None = None,
    encoding: str = 'utf-8',
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    task: str | type | None = None,
    separator: str | None = None,
    labels: str | list[str] | tuple[str, ...] | None = None,
    metric: str | None = None,
    dev: str | PathLike[str] | Rows | None = None,
    test: str | PathLike[str] | Rows | None = None,
    limit: int | None = None,
    delimiter: str | None = None,
    max_length: int | None = None,
    split: Literal['train', 'dev', 'test'] | None = None,
    batch_size: int = 64,
    target: float | None = None,
    oos: str | PathLike[str] | None = None,
) -> dict[str, Any]:
    """Scores a model or a bundle on one split. Returns metrics, interval and counts.

    The settings are those of `Evaluation`.

    Args:
        data: glue/TASK, a Hub data set, a folder (GLUE's, or train/dev/test files), or a file (csv, tsv, jsonl, parquet)
        dev_share: share of train held out when there is no dev file [default: a tenth; of fewer than 1,000 rows up to a quarter, for 100 rows] [0 <= x <= 0.5]
        encoding: encoding of the text files
        text: column of the (first) text
        text_pair: column of the second text, for pairs
        label: column of the label or score
        task: kind of labels, if the data do not show it: 'classification', 'regression', 'multilabel', 'tagging', or a task of your own, package.module:Class
        separator: character between the labels of a cell, with --task multilabel
        labels: class names in the order of their ids, once for each class
        metric: metric that selects the checkpoint [default: the task's first]
        dev: file of development examples [default: a share of train is held out]
        test: file of test examples, scored once, at the end
        limit: use at most this many training examples [1 <= x <= 1,000,000,000]
        delimiter: character between the fields of .csv and .tsv files, or 'tab' [default: by the file's name]
        max_length: longest input in tokens; longer texts are cut [default: as in the run that made the model, else the smaller of the model's own limit and 512] [2 <= x <= 1,048,576]
        model: Hub name or folder of the model
        split: 'train', 'dev' or 'test'; left out: test, else dev, else all of a file
        batch_size: examples a step [1 <= x <= 1,000,000]
        target: share of right answers to reach: looks for the threshold below which to abstain [0 < x < 1]
        oos: file of texts that belong to no class: tells how well they are told apart
    """

def export(
    *,
    model: str | PathLike[str],
    data: str | PathLike[str] | Rows | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    separator: str | None = None,
    metric: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    to: Literal['onnx', 'openvino'] = 'onnx',
    precision: Literal['fp32', 'bf16', 'int8'] = 'int8',
    out: str | PathLike[str] | None = None,
    overwrite: bool = False,
    dev: str | PathLike[str] | None = None,
    texts: str | PathLike[str] | list[str] | tuple[str, ...] | None = None,
    max_length: int | None = None,
    max_drop: float = 0.5,
    max_drop_type: float | None = None,
    target: float | None = None,
    recipe: str | None = None,
    calibration: int = 300,
    probes: Literal['data', 'made-up'] = 'data',
    trim: bool = False,
    opset: int = 18,
    seed: int = 0,
) -> Exported:
    """Exports a model as a deployable bundle.

    Raises:
        UserError: bad settings, model or data; no room on the disk.
        CheckFailed: more of the metric was lost than `max_drop` allows. Nothing is left behind.

    The settings are those of `Export`.

    Args:
        data: labelled data (glue/TASK, folder, file), or scored pairs for an embedding model [default: the run's]
        text: column of the (first) text
        text_pair: column of the second text, for pairs
        label: column of the label or score
        separator: character between the labels of a cell, for a multi-label model
        metric: metric to compare [default: the task's first]
        encoding: encoding of the text files
        delimiter: character between the fields of .csv and .tsv files, or 'tab' [default: by the file's name]
        model: folder of the model or of the run that made it, or Hub name
        to: 'onnx' (ONNX Runtime) or 'openvino'
        precision: 'fp32', 'bf16' (OpenVINO) or 'int8'
        out: folder of the bundle [default: RUN/exports/TO-PRECISION]
        overwrite: replace the bundle in the output folder
        dev: file of development examples
        texts: file of texts to calibrate on, once for each [default: the run's]
        max_length: longest input in tokens [default: the run's, or the model's own] [2 <= x <= 1,048,576]
        max_drop: largest loss in points of the metric; above it nothing is written [0 <= x <= 100]
        max_drop_type: of a tagger: largest loss in points of F1 of any type of entity; above it nothing is written [default: any] [0 <= x <= 100]
        target: share of right answers to reach: below a threshold that is chosen on dev, answers say that they abstain [0 < x < 1]
        recipe: recipe for int8 [default: the first that passes; see docs/export.md]
        calibration: texts that int8 is calibrated on [1 <= x <= 1,000,000]
        probes: texts kept in the bundle for `verify`: 'data' (some of the dev set) or 'made-up' words
        trim: leave out pieces of words that occur in no calibration text
        opset: ONNX operator set [18 <= x <= 99]
        seed: seed of the draw of calibration texts [0 <= x <= 4,294,967,295]
    """

def finetune(
    *,
    data: str | PathLike[str] | Rows,
    out: str | PathLike[str],
    model: str | PathLike[str],
    dev_share: float | None = None,
    encoding: str = 'utf-8',
    epochs: float | None = None,
    batch_size: int = 32,
    accumulate: int = 1,
    learning_rate: float | None = None,
    schedule: Literal['stages', 'linear', 'constant'] = 'stages',
    warmup: float = 0.05,
    weight_decay: float = 0.01,
    max_grad_norm: float = 1.0,
    checks: int = 10,
    patience: int | None = None,
    seed: int = 0,
    precision: Literal['auto', 'bf16', 'fp32'] = 'auto',
    report_to: str = 'none',
    keep_checkpoints: bool = False,
    overwrite: bool = False,
    force: bool = False,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    task: str | type | Literal['language'] | None = None,
    separator: str | None = None,
    labels: str | list[str] | tuple[str, ...] | None = None,
    metric: str | None = None,
    dev: str | PathLike[str] | Rows | None = None,
    test: str | PathLike[str] | Rows | None = None,
    limit: int | None = None,
    delimiter: str | None = None,
    max_length: int | None = None,
    preset: Literal['quick', 'good', 'best'] = 'good',
    minutes: float | None = None,
    vocabulary: Literal['all', 'texts'] = 'all',
    class_weights: str | PathLike[str] | None = None,
    average: int | None = None,
    head: Literal['probe', 'probe-cls', 'random'] = 'probe',
    prompt: str | None = None,
    answer: str | None = None,
    messages: str | None = None,
    chat: bool = False,
    new_tokens: int | None = None,
    select: Literal['kl', 'perplexity', 'exact_match', 'rouge_l', 'own_nats'] = 'perplexity',
    resume: bool = False,
) -> Run:
    """Trains a model on labels, or a language model on answers. resume: goes on with the interrupted run in `out`.

    Raises:
        UserError: bad settings, data or model; before training where it can be known.
        Interrupted: stopped by Ctrl-C or SIGTERM, and saved; call again with `resume=True`.

    The settings are those of `Finetuning` and `LanguageFinetuning`.

    Args:
        data: glue/TASK, a Hub data set, a folder (GLUE's, or train/dev/test files), or a file (csv, tsv, jsonl, parquet)
        dev_share: share of train held out when there is no dev file [default: a tenth; of fewer than 1,000 rows up to a quarter, for 100 rows] [0 <= x <= 0.5]
        encoding: encoding of the text files
        out: folder for the run: student/, report.html, metrics.json, run.json, checkpoints/, log.jsonl
        epochs: passes over the training texts, instead of --preset or --minutes [default: as many as --preset says] [0 < x <= 100,000] [LanguageFinetuning: 3.0]
        batch_size: examples a step, over all processes [1 <= x <= 1,000,000]
        accumulate: split each batch into this many parts, which saves memory [1 <= x <= 1,000,000]
        learning_rate: highest learning rate [default: by the width of the trained model] [0 < x <= 1] [LanguageFinetuning: 0.0001]
        schedule: learning rate: 'stages' (constant, then decay in the last stage), 'linear' (one decay) or 'constant'
        warmup: share of the steps over which the learning rate rises [0 <= x < 1]
        weight_decay: AdamW's weight decay [0 <= x <= 1,000]
        max_grad_norm: gradient clipping; 0: none [0 <= x <= 1,000,000]
        checks: number of times that the run is scored on dev and saved [1 <= x <= 100,000]
        patience: end after so many checks in a row without a better dev score; only those of the last stage count. The learning rate falls as in the whole run, and has not reached 0 then [1 <= x <= 100,000]
        seed: seed of initial weights, order of texts, and dropout [0 <= x <= 4,294,967,295]
        precision: 'bf16', 'fp32', or 'auto' (bf16 where the machine computes it faster)
        report_to: experiment tracker: tensorboard, wandb, mlflow, trackio, … (as transformers' report_to)
        keep_checkpoints: keep checkpoints/, with the optimizer's state, when the run has finished
        overwrite: replace the run in the output folder
        force: start although a check before training failed
        text: column of the (first) text [Finetuning alone]
        text_pair: column of the second text, for pairs [Finetuning alone]
        label: column of the label or score [Finetuning alone]
        task: kind of labels, if the data do not show it: 'classification', 'regression', 'multilabel', 'tagging', or a task of your own, package.module:Class [LanguageFinetuning: 'language']
        separator: character between the labels of a cell, with --task multilabel [Finetuning alone]
        labels: class names in the order of their ids, once for each class [Finetuning alone]
        metric: metric that selects the checkpoint [default: the task's first] [Finetuning alone]
        dev: file of development examples [default: a share of train is held out]
        test: file of test examples, scored once, at the end
        limit: use at most this many training examples [1 <= x <= 1,000,000,000]
        delimiter: character between the fields of .csv and .tsv files, or 'tab' [default: by the file's name]
        max_length: longest input in tokens; longer texts are cut [default: as in the run that made the model, else the smaller of the model's own limit and 128] [2 <= x <= 1,048,576]
        preset: length of the run: 'quick' (one pass, at least 60 steps), 'good' (4 passes, at least 200 steps) or 'best' (10 passes, at least 600 steps) [Finetuning alone]
        minutes: train for about so many minutes instead [0 < x <= 100,000] [Finetuning alone]
        vocabulary: pieces of words that the saved model knows: 'all' of its tokenizer's, or those of the training 'texts' and single characters, which makes it smaller [Finetuning alone]
        class_weights: weights of the classes in the label loss: 'balanced' (rare classes count as much as common ones), or a JSON file, {class: weight}; with several labels a text they weigh the rows that have the label [Finetuning alone]
        average: keep the mean of the weights at the last so many checks (of the last stage), unless the best checkpoint leads it on dev by more than a standard error [2 <= x <= 1,000] [Finetuning alone]
        model: Hub name or folder of the model to fine-tune
        head: start of a head that is made new: 'probe' (fitted on the frozen encoder, if that tells anything; where rows are few and the mean of the tokens fits better than the first one, a layer that averages them is added), 'probe-cls' (no layer is added) or 'random' [Finetuning alone]
        prompt: column of the prompt [LanguageFinetuning alone]
        answer: column of the answer [LanguageFinetuning alone]
        messages: column of whole conversations (role, content); the last message is the answer [LanguageFinetuning alone]
        chat: write prompts and answers by the tokenizer's chat template [LanguageFinetuning alone]
        new_tokens: longest answer that is written, in tokens [default: that of the training answers] [1 <= x <= 100,000] [LanguageFinetuning alone]
        select: metric on dev that selects the checkpoint [LanguageFinetuning alone]
    """

def label(
    *,
    data: str | PathLike[str] | Rows,
    endpoint: str,
    out: str | PathLike[str],
    text: str | None = None,
    text_pair: str | None = None,
    encoding: str = 'utf-8',
    delimiter: str | None = None,
    skip_broken: bool = False,
    limit: int | None = None,
    max_characters: int | None = None,
    labels: str | PathLike[str] | list[str] | tuple[str, ...] | None = None,
    prompt: str | PathLike[str] | None = None,
    examples: str | PathLike[str] | None = None,
    model: str | None = None,
    mode: Literal['auto', 'logprobs', 'answers', 'schema'] = 'auto',
    repeats: int = 1,
    temperature: float | None = None,
    max_tokens: int | None = None,
    key_variable: str | None = None,
    plain_http: bool = False,
    workers: int = 4,
    rate: float | None = None,
    timeout: float = 60.0,
    retries: int = 6,
    price_in: float | None = None,
    price_out: float | None = None,
    max_price: float | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
) -> Labelled:
    """Asks a language model behind an HTTP API for the class of each text, and stores each answer as it comes.

    Texts that are in `out` are not asked again.

    Raises:
        UserError: bad settings, texts or key; the endpoint refuses; the answers in `out` were made with other settings.

    The settings are those of `Labelling`.

    Args:
        data: file of texts: a line each (.txt), or .csv .tsv .jsonl .parquet; each also as .gz .xz
        text: column of the (first) text [default: 'text']
        text_pair: column of the second text, for pairs
        encoding: encoding of the text files
        delimiter: character between the fields of .csv and .tsv files, or 'tab' [default: by the file's name]
        skip_broken: leave out rows without a text and rows that cannot be read, and count them
        limit: ask about the first so many texts alone [1 <= x <= 1,000,000,000]
        max_characters: leave out longer texts, and count them [default: each text is sent whole] [1 <= x <= 1,000,000,000]
        labels: class names, once for each; or one file: a name a line, its meaning behind a tab; not needed with /predict
        prompt: file of the question: {labels} and {text} (and {text_pair}, {examples}) stand for these [default: as --dry-run shows]
        examples: file of answered texts, shown with each question; its columns: the texts' and 'label'
        endpoint: address of an API like OpenAI's (https://api.openai.com/v1, http://localhost:11434/v1), or of `contrastill serve` (http://localhost:8000/predict)
        model: name of the model at the endpoint; not needed with /predict
        mode: 'logprobs' (probabilities of the classes), 'answers' (names of classes), 'schema' (names in JSON, which the endpoint holds to the classes), or 'auto' (logprobs, if the endpoint has them, else answers)
        repeats: questions about each text: with logprobs in other orders of the classes, else at a temperature above 0; their mean or distribution is stored [1 <= x <= 1,000]
        temperature: temperature of the answers [default: 0, and 1 for several answers] [0 <= x <= 2]
        max_tokens: tokens of an answer; a model that thinks before it answers needs thousands [default: as many as a class's name can have] [1 <= x <= 1,000,000]
        key_variable: environment variable of the key [default: OPENAI_API_KEY, if there is one]
        plain_http: send the key to another machine over http://, where others can read it on the way
        workers: requests at a time [1 <= x <= 1,024]
        rate: requests a minute [default: as fast as answers come] [0 < x <= 1,000,000]
        timeout: seconds to wait for an answer [0 < x <= 86,400]
        retries: further tries of a request that found no server, a busy or a broken one [0 <= x <= 100]
        price_in: price of a million tokens sent [0 <= x <= 1,000,000]
        price_out: price of a million tokens answered [0 <= x <= 1,000,000]
        max_price: most to spend on the answers in --out, earlier calls included; needs the prices [0 <= x <= 1,000,000]
        out: file of the answers: .jsonl; texts that are there are not asked again
        overwrite: delete the answers in the output file, and begin anew
        dry_run: ask nothing; show the first question, and estimate tokens and price
    """

def predict(
    *,
    model: str | PathLike[str],
    data: str | PathLike[str] | Rows,
    text: str | None = None,
    text_pair: str | None = None,
    keep: str | list[str] | tuple[str, ...] | None = None,
    encoding: str = 'utf-8',
    delimiter: str | None = None,
    skip_broken: bool = False,
    out: str | PathLike[str] | None = None,
    overwrite: bool = False,
    top: int = 1,
    probabilities: bool = False,
    batch_size: int = 32,
    max_length: int | None = None,
    threads: int | None = None,
    stream: IO[str] | None = None,
) -> Predictions:
    """Answers texts with a bundle or a model, in the order of the rows.

    stream: the target of the answers if `out` is not given; by default stdout. For rows passed as objects, without
    `out`, the answers are in `.answers` of the result.

    The settings are those of `Prediction`.

    Args:
        model: bundle, folder of a model or of the run that made it, or Hub name
        data: file of texts: a line each (.txt), or .csv .tsv .jsonl .parquet; each also as .gz .xz
        text: column of the (first) text [default: as in the model's run, else 'text']
        text_pair: column of the second text, for models of pairs [default: as in the model's run]
        keep: column to copy from the file to the answers; once for each [default: 'id', if there is one]
        encoding: encoding of the text files
        delimiter: character between the fields of .csv and .tsv files, or 'tab' [default: by the file's name]
        skip_broken: leave out rows without a text and rows that cannot be read, and count them; each answer then has the number of its line
        out: file of the answers: .jsonl, .csv, .tsv (each also as .gz .xz) or .parquet; '-': JSON lines on stdout [default: -]
        overwrite: replace an existing output file
        top: classes listed for each text, the likeliest first [1 <= x <= 1,000,000]
        probabilities: the probability of each class
        batch_size: texts computed together [1 <= x <= 1,000,000]
        max_length: longest input in tokens, not for bundles [default: the run's, or the model's own] [2 <= x <= 1,048,576]
        threads: CPU threads [default: every core] [1 <= x <= 4,096]
    """

def pretrain(
    *,
    out: str | PathLike[str],
    texts: str | PathLike[str] | list[str] | tuple[str, ...] | Rows,
    teacher: str | PathLike[str],
    epochs: float = 1.0,
    batch_size: int = 128,
    accumulate: int = 1,
    learning_rate: float = 0.0005,
    schedule: Literal['stages', 'linear', 'constant'] = 'linear',
    warmup: float = 0.05,
    weight_decay: float = 0.01,
    max_grad_norm: float = 1.0,
    checks: int = 10,
    patience: int | None = None,
    seed: int = 0,
    precision: Literal['auto', 'bf16', 'fp32'] = 'auto',
    report_to: str = 'none',
    keep_checkpoints: bool = False,
    overwrite: bool = False,
    force: bool = False,
    text: str | None = None,
    limit: int | None = None,
    encoding: str = 'utf-8',
    delimiter: str | None = None,
    max_length: int | None = None,
    method: str | type = 'lrc_bert',
    student: str = '4L-312',
    start: str | PathLike[str] = 'inherit',
    set: Mapping[str, Any] = ...,
    dropout: float = 0.0,
    cache: str | PathLike[str] | None = None,
    half: bool = False,
    resume: bool = False,
) -> Run:
    """Makes a general student of an encoder. resume: goes on with the interrupted run in `out`.

    Raises as `finetune` does.

    The settings are those of `Pretraining`.

    Args:
        out: folder for the run: student/, report.html, metrics.json, run.json, checkpoints/, log.jsonl
        epochs: passes over the training texts [0 < x <= 100,000]
        batch_size: examples a step, over all processes [1 <= x <= 1,000,000]
        accumulate: split each batch into this many parts, which saves memory [1 <= x <= 1,000,000]
        learning_rate: highest learning rate [0 < x <= 1]
        schedule: learning rate: 'stages' (constant, then decay in the last stage), 'linear' (one decay) or 'constant'
        warmup: share of the steps over which the learning rate rises [0 <= x < 1]
        weight_decay: AdamW's weight decay [0 <= x <= 1,000]
        max_grad_norm: gradient clipping; 0: none [0 <= x <= 1,000,000]
        checks: number of times that the run is scored on dev and saved [1 <= x <= 100,000]
        patience: end after so many checks in a row without a better dev score; only those of the last stage count. The learning rate falls as in the whole run, and has not reached 0 then [1 <= x <= 100,000]
        seed: seed of initial weights, order of texts, and dropout [0 <= x <= 4,294,967,295]
        precision: 'bf16', 'fp32', or 'auto' (bf16 where the machine computes it faster)
        report_to: experiment tracker: tensorboard, wandb, mlflow, trackio, … (as transformers' report_to)
        keep_checkpoints: keep checkpoints/, with the optimizer's state, when the run has finished
        overwrite: replace the run in the output folder
        force: start although a check before training failed
        texts: file of texts (a line each; or .csv .tsv .jsonl .parquet with --text; .gz .xz), or Hub data set; once for each source
        text: column of the texts, if the file has columns
        limit: read at most this many texts [1 <= x <= 1,000,000,000]
        encoding: encoding of the text files
        delimiter: character between the fields of .csv and .tsv files, or 'tab' [default: by the file's name]
        max_length: longest input in tokens; longer texts are cut [default: as in the run that made the model, else the smaller of the model's own limit and 128] [2 <= x <= 1,048,576]
        teacher: Hub name or folder of an encoder (a sentence-embedding model is one too)
        method: lrc_bert, tinybert, minilm or distilbert; only their terms without labels are used
        student: shape: 4L-312, 6L-768, 3L (layers of the teacher's width), or layers/hidden/heads/ffn; then +e128 (narrower word tables) or +shared (one layer's weights for all), or both; or static-256 (word vectors without layers); or, with a folder or Hub name as --start, 'as-is'
        start: random, copy, inherit, the folder of a student to go on with, or with --student as-is any encoder, with its own tokenizer
        set: a setting of the method, as name=value
        dropout: dropout of the student during training [0 <= x < 1]
        cache: folder of the student's start [default: $CONTRASTILL_CACHE or ~/.cache/contrastill]
        half: save the weights as float16: half the size; they load as float32
    """

def serve(
    *,
    bundle: str | PathLike[str],
    threads: int | None = None,
    workers: int = 1,
    host: str = '127.0.0.1',
    port: int = 8000,
    api_key_file: str | PathLike[str] | None = None,
    drain: float = 30.0,
    max_batch: int = 32,
    max_wait_ms: float = 0.0,
    max_connections: int = 1000,
    max_requests: int = 512,
    queue: int = 256,
    max_texts: int = 256,
    max_characters: int = 20000,
    max_body_mb: float = 2.0,
    read_timeout: float = 10.0,
    keep_alive: float = 75.0,
    timeout: float = 30.0,
) -> int:
    """Serves a bundle over HTTP until a signal. Returns the exit code: 1 if requests were cut off.

    The settings are those of `Serving`.

    Args:
        bundle: folder that `contrastill export` wrote
        threads: CPU threads of the model [default: every core] [1 <= x <= 4,096]
        workers: batches computed at a time; they share the threads [1 <= x <= 4,096]
        host: address to listen on; without a key, everyone who reaches it may send requests
        port: port to listen on; 0: any free one [0 <= x <= 65,535]
        api_key_file: file of keys, one a line; each request must have one (Authorization: Bearer KEY) [default: the key in $CONTRASTILL_API_KEY, else none is needed]
        drain: seconds to answer accepted requests after SIGTERM [0 < x <= 86,400]
        max_batch: texts computed together [1 <= x <= 1,000,000]
        max_wait_ms: milliseconds that a text waits for others while the model is idle [0 <= x <= 1,000]
        max_connections: connections at a time, fewer if the process may open fewer files; beyond this, the one idle for longest is closed [8 <= x <= 1,000,000]
        max_requests: requests at a time; more get a 503 [1 <= x <= 1,000,000]
        queue: waiting texts; more get a 429 [1 <= x <= 1,000,000]
        max_texts: texts in a request [1 <= x <= 1,000,000]
        max_characters: characters in a text [1 <= x <= 1,000,000,000]
        max_body_mb: size of a request's body [0 < x <= 1,024]
        read_timeout: seconds for a request's headers, and as many for its body [0 < x <= 86,400]
        keep_alive: seconds a connection is kept after an answer [0 < x <= 86,400]
        timeout: seconds to compute an answer, and as many for the client to read it [0 < x <= 86,400]
    """

def verify(
    *,
    bundle: str | PathLike[str],
    data: str | PathLike[str] | Rows | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    separator: str | None = None,
    metric: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    split: Literal['train', 'dev', 'test'] | None = None,
    max_drop: float | None = None,
    threads: int | None = None,
) -> Verified:
    """Checks a bundle's files, its answers to the stored texts and, given data, its metric.

    Returns what was found; "problems" is empty where all is well.

    The settings are those of `Verification`.

    Args:
        data: labelled data (glue/TASK, folder, file), or scored pairs for an embedding model [default: the run's]
        text: column of the (first) text
        text_pair: column of the second text, for pairs
        label: column of the label or score
        separator: character between the labels of a cell, for a multi-label model
        metric: metric to compare [default: the task's first]
        encoding: encoding of the text files
        delimiter: character between the fields of .csv and .tsv files, or 'tab' [default: by the file's name]
        bundle: folder that `contrastill export` wrote
        split: 'train', 'dev' or 'test'; left out: dev, else all of a file
        max_drop: points the bundle may lose against the model [default: as exported] [0 <= x <= 100]
        threads: CPU threads [default: every core] [1 <= x <= 4,096]
    """
