"""Each method's terms, put together by hand from the models' outputs: which layers, projections and sums."""

import math

import pytest
import torch

from contrastill import encoder


def cosine(x, y):
    dot = sum(a * b for a, b in zip(x, y, strict=True))
    return dot / math.sqrt(sum(a * a for a in x)) / math.sqrt(sum(b * b for b in y))


def slow_cos_nce(student, teacher, real, negatives_of_row):
    """Over lists [row][vector][width]: `1/2K sum_k [2 - (g(n_k, s) - g(t, s))] + g(t, s)`, the paper's own form."""
    rows = []
    for b, vectors in enumerate(student):
        tokens = []
        for k, s in enumerate(vectors):
            if real[b][k]:
                positive, terms = 1 - cosine(teacher[b][k], s), []
                for n in negatives_of_row[b]:
                    far = [1 - cosine(x, s) for x, r in zip(teacher[n], real[n], strict=True) if r]
                    terms.append(2 - (sum(far) / len(far) - positive))
                tokens.append(sum(terms) / (2 * len(terms)) + positive)
        rows.append(sum(tokens) / len(tokens))
    return sum(rows) / len(rows)


def view(hidden, mask, granularity):
    """(B, L, D) -> lists of what is compared, and which of it is real."""
    if granularity == "tokens":
        return hidden.tolist(), mask.tolist()
    if granularity == "cls":
        return [[row[0].tolist()] for row in hidden], [[True]] * len(hidden)
    return [[row[m].mean(0).tolist()] for row, m in zip(hidden, mask, strict=True)], [[True]] * len(hidden)


def outputs(method, batch):
    """hidden states of student and teacher, straight from the models."""
    inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
    models = method.student.model, method.teacher.model
    return [model(**inputs, output_hidden_states=True, output_attentions=False) for model in models]


def terms_of(method, batch):
    return method.losses(method.student(batch, method.needs), method.run_teacher(batch), batch)


@pytest.mark.parametrize("granularity", ["tokens", "cls", "mean"])
def test_lrc_berts_cos_nce_is_the_sum_over_the_mapped_layers_of_the_papers_formula(
    granularity, tiny_method, tiny_batch
):
    method, batch = tiny_method("lrc_bert", {"granularity": granularity}), tiny_batch()
    batch["text_key"][4] = batch["text_key"][1]  # duplicates are no negatives of one another
    keys = batch["text_key"].tolist()
    negatives = [[n for n in range(6) if keys[n] != key] for key in keys]
    assert [len(n) for n in negatives] == [5, 4, 5, 5, 4, 5]
    mask = batch["attention_mask"].bool()
    student, teacher = outputs(method, batch)
    expected = 0.0
    for project, i, j in zip(method.project, (1, 2), (2, 4), strict=True):
        s, real = view(student.hidden_states[i], mask, granularity)
        t, _ = view(teacher.hidden_states[j], mask, granularity)
        s = [[project(torch.tensor(vector)).tolist() for vector in row] for row in s]
        expected += slow_cos_nce(s, t, real, negatives)
    assert terms_of(method, batch)["cos_nce"].item() == pytest.approx(expected, rel=1e-5)


def test_lrc_berts_soft_and_hard_terms_are_those_of_the_logits(tiny_method, tiny_batch):
    method, batch = tiny_method("lrc_bert", {"temperature": 1.1}), tiny_batch()
    student, teacher = outputs(method, batch)
    p, q = (x.logits.div(1.1).softmax(-1) for x in (teacher, student))
    terms = terms_of(method, batch)
    torch.testing.assert_close(terms["soft"], (p * (p.log() - q.log())).sum(1).mean())
    right = student.logits.softmax(-1)[range(6), batch["labels"]]
    torch.testing.assert_close(terms["hard"], -right.log().mean())


def test_lrc_bert_with_negatives_draws_others_each_time(tiny_method, tiny_batch):
    method, batch = tiny_method("lrc_bert", {"negatives": 2}), tiny_batch()
    torch.manual_seed(0)
    first, second = (terms_of(method, batch)["cos_nce"].item() for _ in range(2))
    assert first != second
    whole, draws = tiny_method("lrc_bert"), []
    whole.load_state_dict(method.state_dict())
    for seed in range(200):
        torch.manual_seed(seed)
        draws.append(terms_of(method, batch)["cos_nce"].item())
    mean = terms_of(whole, batch)["cos_nce"].item()  # drawing is unbiased
    assert sum(draws) / len(draws) == pytest.approx(mean, abs=0.02)


def test_the_mean_of_a_text_counts_wherever_its_padding_stands():
    hidden = torch.randn(2, 4, 3)
    mask = torch.tensor([[False, False, True, True], [True, True, True, True]])
    mean, real = encoder.pool_layer(hidden, mask, "mean")
    assert real.tolist() == [[True], [True]]
    torch.testing.assert_close(mean, torch.stack([hidden[0, 2:].mean(0), hidden[1].mean(0)]).unsqueeze(1))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_kd_term_has_t_squared(temperature, tiny_method, tiny_batch):
    method, batch = tiny_method("kd", {"temperature": temperature}), tiny_batch()
    student, teacher = outputs(method, batch)
    p, q = (x.logits.div(temperature).softmax(-1) for x in (teacher, student))
    expected = temperature**2 * (p * (p.log() - q.log())).sum(1).mean()
    torch.testing.assert_close(terms_of(method, batch)["kd"], expected)


@pytest.mark.parametrize("name", ["lrc_bert", "kd", "pkd", "tinybert"])
def test_regressions_soft_term_is_the_squared_distance_to_the_teachers_score(name, tiny_method, tiny_batch):
    method, batch = tiny_method(name, {"temperature": 3.0}, classes=1), tiny_batch(classes=1)
    student, teacher = outputs(method, batch)
    terms = terms_of(method, batch)
    soft = terms["kd" if name in ("kd", "pkd") else "soft"]
    torch.testing.assert_close(soft, (student.logits - teacher.logits).square().mean())
    if "hard" in terms:
        torch.testing.assert_close(terms["hard"], (student.logits[:, 0] - batch["labels"]).square().mean())


@pytest.mark.parametrize(("layer_map", "pairs"), [("skip", [(1, 2), (2, 3)]), ("last", [(1, 4), (2, 5)])])
@pytest.mark.parametrize("width", [16, 24])
def test_pkds_patient_term_compares_unit_cls_vectors_of_the_mapped_layers(
    layer_map, pairs, width, tiny_method, tiny_batch
):
    shapes = {"student": {"layers": 3, "width": width}, "teacher": {"layers": 5 if layer_map == "skip" else 6}}
    method, batch = tiny_method("pkd", {"layer_map": layer_map}, **shapes), tiny_batch()
    if layer_map == "last":
        pairs = [(1, 4), (2, 5)]
    assert method.pairs == pairs
    assert len(list(method.project.parameters())) == (0 if width == 24 else 2 * len(pairs))
    student, teacher = outputs(method, batch)
    errors = []
    for project, (i, j) in zip(method.project, pairs, strict=True):
        s, t = project(student.hidden_states[i][:, 0]), teacher.hidden_states[j][:, 0]
        errors.append((s / s.norm(dim=1, keepdim=True) - t / t.norm(dim=1, keepdim=True)).square().mean())
    torch.testing.assert_close(terms_of(method, batch)["patient"], sum(errors) / len(errors))


@pytest.mark.parametrize("relative", [False, True])
def test_tinyberts_terms_are_mean_squared_distances_over_real_tokens_and_pairs(relative, tiny_method, tiny_batch):
    method, batch = tiny_method("tinybert", {"relative": relative}), tiny_batch()
    mask = batch["attention_mask"].bool()
    student, teacher = outputs(method, batch)
    scores = [e.attention for e in (method.student(batch, method.needs), method.run_teacher(batch))]

    def distance(project, i, j):
        rows = list(zip(project(student.hidden_states[i]), teacher.hidden_states[j], mask, strict=True))
        size = sum(t[m].square().mean() for _, t, m in rows) / len(mask) if relative else 1
        return sum((s[m] - t[m]).square().mean() for s, t, m in rows) / len(mask) / size

    def score_distance(i, j):
        rows = [
            (s[:, m][:, :, m], t[:, m][:, :, m])
            for s, t, m in zip(scores[0][i - 1], scores[1][j - 1], mask, strict=True)
        ]
        size = sum(t.square().mean() for _, t in rows) / len(mask) if relative else 1
        return sum((s - t).square().mean() for s, t in rows) / len(mask) / size

    terms = terms_of(method, batch)
    torch.testing.assert_close(terms["embedding"], distance(method.project_embedding, 0, 0))
    expected = distance(method.project_hidden, 1, 2) + distance(method.project_hidden, 2, 4)
    torch.testing.assert_close(terms["hidden"], expected)
    torch.testing.assert_close(terms["attention"], score_distance(1, 2) + score_distance(2, 4))
    assert set(terms) == {"embedding", "hidden", "attention", "soft"}


def test_finetune_is_plain_cross_entropy_and_never_runs_a_teacher(tiny_method, tiny_batch):
    method, batch = tiny_method("finetune"), tiny_batch()
    logits = method.student.model(batch["input_ids"], batch["attention_mask"]).logits
    expected = torch.nn.functional.cross_entropy(logits, batch["labels"])
    torch.testing.assert_close(method(**batch)["loss"], expected)
    assert method.run_teacher(batch) is None
