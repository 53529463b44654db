"""What holds of every method: one table of settings (`method_rows`) drives the same tests over all of METHODS."""

import copy
import inspect
import math
import re

import pytest
import torch
from method_rows import OF_TEXTS, ROWS

from contrastill.errors import UserError
from contrastill.methods import METHODS, Stage, method_settings, read_settings
from contrastill.methods.base import Method
from contrastill.tasks import Classification, Pairs

SOURCE = r"(arXiv:\d{4}\.\d{5}|ACL \d{4}\.[a-z-]+\.\d+)\."  # of a paper
STAGED = [(name, index) for name, method in OF_TEXTS.items() for index in range(len(method.stages))]


def terms_of(method, batch, seed=0):
    """The unweighted terms; negatives, where they are drawn, are drawn from the same seed. No queue is pushed to."""
    torch.manual_seed(seed)
    batch = method.prepare(batch)
    return method.losses(method.student(batch, method.needs), method.run_teacher(batch), batch)


def rows_of(batch, rows):
    """Some rows: texts, or groups of texts, which stand column by column."""
    columns = getattr(batch, "columns", 1)
    return {name: torch.cat([part[rows] for part in value.chunk(columns)]) for name, value in batch.items()}


def unlabelled(batch):
    return math.nan if batch["labels"].is_floating_point() else -100


def with_queue_filled(method, tiny_batch, classes=3):
    """A method with a queue looks at past texts too."""
    if getattr(getattr(method, "queue", None), "size", 0):
        method(**tiny_batch(rows=5, seed=9, classes=classes))
        assert method.queue.pushed == 5
    return method


def test_the_table_covers_every_method_and_every_setting():
    assert set(ROWS) == set(OF_TEXTS)
    assert len(OF_TEXTS) >= 10
    for name, rows in ROWS.items():
        assert rows[0] == {}, "the defaults come first"
        assert set().union(*rows) == set(method_settings(name)), f"a row of {name!r} for each of its settings"


# ---- steps ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "pairs"), [(1, False), (2, True), (77, False)], ids=["score", "pairs", "77"])
def test_every_stage_gives_a_finite_loss_and_a_gradient_to_the_student(case, classes, pairs, tiny_method, tiny_batch):
    method = with_queue_filled(tiny_method(*case, classes=classes), tiny_batch, classes)
    batch, reached = tiny_batch(pairs=pairs, classes=classes), set()
    for stage in method.stages:
        method.stage = stage
        method.zero_grad()
        result = method(**batch)
        assert all(value.shape == () and value.dtype == torch.float32 and value.isfinite() for value in result.values())
        expected = sum(weight * result[term] for term, weight in method.stage.weights.items())
        torch.testing.assert_close(result["loss"], expected)
        result["loss"].backward()
        grads = {n: p.grad for n, p in method.student.named_parameters(remove_duplicate=False) if p.grad is not None}
        assert all(grad.isfinite().all() for grad in grads.values())
        now = {name for name, grad in grads.items() if grad.abs().sum() > 0}
        assert any("embeddings.word_embeddings" in name for name in now)
        assert any("layer.0." in name for name in now)
        reached |= now
    assert any("layer.1." in name for name in reached)  # some maps leave the top layer to the labels


def test_every_family_can_be_student_and_teacher(plain, family, tiny_method, tiny_batch):
    method, batch = tiny_method(*plain, family=family), tiny_batch()
    for stage in method.stages:
        method.stage = stage
        loss = method(**batch)["loss"]
        assert loss.isfinite()
        loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in method.student.parameters())


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ({"layers": 3, "width": 8}, {"layers": 5, "width": 24}),
        ({"layers": 2, "width": 24}, {"layers": 2, "width": 24}),
        ({"layers": 2, "width": 32}, {"layers": 3, "width": 16}),  # wider than the teacher
        ({"family": "distilbert"}, {"family": "bert"}),
        ({"family": "bert"}, {"family": "modernbert"}),
    ],
)
def test_student_and_teacher_may_differ_in_depth_width_and_family(plain, student, teacher, tiny_method, tiny_batch):
    method = tiny_method(*plain, student=student, teacher=teacher)
    for stage in method.stages:
        method.stage = stage
        result = method(**tiny_batch())
        assert all(value.isfinite() for value in result.values())
        result["loss"].backward()


def test_every_parameter_beside_the_students_gets_a_gradient_in_some_stage(case, tiny_method, tiny_batch):
    method = tiny_method(*case)
    own = {n: p for n, p in method.named_parameters() if not n.startswith("student.")}
    nothing_projected = case[1].get("contrast") == 0 or case[0] in (
        "kd",
        "finetune",
        "simcse",
        "distillcse",
        "minilm",
        "dist",
        "comparative",
        "mixkd",
    )
    assert bool(own) == (not nothing_projected)
    assert all(p.requires_grad for p in own.values())
    for stage in method.stages:
        method.stage = stage
        method(**tiny_batch())["loss"].backward()
    idle = [name for name, p in own.items() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []


def test_the_teacher_is_neither_trained_nor_saved(case, tiny_method, tiny_batch):
    method = tiny_method(*case)
    assert (method.teacher is None) == (case[0] == "finetune")
    student = {f"student.model.{name}" for name in method.student.model.state_dict()}
    beside = {name.split(".")[0] for name in set(method.state_dict()) - student}
    assert beside <= {"project", "project_embedding", "project_hidden", "queue", "log_scale", "verdict"}
    if method.teacher is None:
        return
    teacher = method.teacher.model
    before = copy.deepcopy(teacher.state_dict())
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    for stage in method.stages:
        method.stage = stage
        method(**tiny_batch())["loss"].backward()
        optimizer.step()
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert not {p.data_ptr() for p in teacher.parameters()} & {p.data_ptr() for p in method.parameters()}
    torch.testing.assert_close(teacher.state_dict(), before, rtol=0, atol=0)


def test_the_terms_are_logged_without_a_graph_and_the_loss_with_one(case, tiny_method, tiny_batch):
    result = tiny_method(*case)(**tiny_batch())
    assert result.pop("loss").requires_grad
    assert not any(value.requires_grad for value in result.values())


# ---- labels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [1, 3])
def test_a_row_without_a_label_counts_in_the_hard_term_as_one_without_an_error(case, classes, tiny_method, tiny_batch):
    method, batch = tiny_method(*case, classes=classes), tiny_batch(classes=classes)
    whole = terms_of(method, batch)
    labelled = torch.tensor([True, False, True, True, False, True])
    batch["labels"][: len(labelled)][~labelled] = unlabelled(batch)
    terms = terms_of(method, batch)
    of_labels = terms.keys() & {"hard", "labels", "ptp"}
    alone = terms_of(method, rows_of(batch, labelled)) if of_labels else {}
    share = labelled.float().mean()
    for term in of_labels:  # "labels" is a mean over pairs of rows
        torch.testing.assert_close(terms[term], alone[term] * (share**2 if term == "labels" else share))
        assert not torch.isclose(terms[term], whole[term])
    for term in terms.keys() - of_labels - {"mixed_hard"}:  # of labels too, of two rows each: see test_mixkd
        assert torch.equal(terms[term], whole[term]), "labels belong to the terms of labels alone"


@pytest.mark.parametrize("name", ["kd", "lrc_bert", "finetune"])
def test_the_hard_term_of_a_batch_is_the_mean_of_its_parts_however_labels_fall(name, tiny_method, tiny_batch):
    method, batch = tiny_method(name), tiny_batch()
    batch["labels"][torch.tensor([1, 4, 5])] = unlabelled(batch)  # two labels in the first half, one in the second
    halves = [terms_of(method, {key: value[n : n + 3] for key, value in batch.items()})["hard"] for n in (0, 3)]
    torch.testing.assert_close(sum(halves) / 2, terms_of(method, batch)["hard"])


@pytest.mark.parametrize("classes", [1, 3])
def test_a_batch_with_no_label_at_all_gives_a_hard_term_of_0_and_finite_gradients(
    case, classes, tiny_method, tiny_batch
):
    method, batch = tiny_method(*case, classes=classes), tiny_batch(classes=classes)
    batch["labels"] = torch.full_like(batch["labels"], unlabelled(batch))
    for stage in method.stages:
        method.stage = stage
        result = method(**batch)
        assert result.get("hard", 0) == 0
        result["loss"].backward()
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)


# ---- what must not matter ------------------------------------------------------------------------------------------


def test_padding_to_more_columns_changes_no_term(case, tiny_method, tiny_batch):
    padding_changes_nothing(tiny_method(*case), tiny_batch)


def test_padding_changes_no_term_of_any_family(plain, family, tiny_method, tiny_batch):
    padding_changes_nothing(tiny_method(*plain, family=family), tiny_batch)


def padding_changes_nothing(method, tiny_batch):
    method = with_queue_filled(method, tiny_batch)
    batch = tiny_batch()
    wide = dict(batch)
    for name, fill in (("input_ids", 1), ("attention_mask", 0)):
        wide[name] = torch.nn.functional.pad(batch[name], (0, 7), value=fill)
    torch.testing.assert_close(terms_of(method, wide), terms_of(method, batch), rtol=1e-4, atol=1e-5)


def test_the_order_of_the_batch_changes_no_term(case, tiny_method, tiny_batch):
    if METHODS[case[0]].asks_live:
        pytest.skip("mixtures are drawn by row, masked words by place")
    if "negatives" in case[1]:
        # The draw goes by row, so here a fixed one must do.
        case = case[0], {**case[1], "negatives": 5}
    method = with_queue_filled(tiny_method(*case), tiny_batch)
    batch, order = tiny_batch(), torch.tensor([4, 2, 0, 5, 1, 3])
    torch.testing.assert_close(terms_of(method, rows_of(batch, order)), terms_of(method, batch))


def test_bfloat16_autocast_gives_terms_close_to_those_of_float32(case, tiny_method, tiny_batch):
    method, batch = with_queue_filled(tiny_method(*case), tiny_batch), tiny_batch()
    whole = terms_of(method, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = terms_of(method, batch)
        loss = method(**batch)["loss"]
    torch.testing.assert_close(mixed, whole, rtol=0.05, atol=0.02)
    assert any(not torch.equal(mixed[term], whole[term]) for term in whole)  # autocast was in force
    assert loss.dtype == torch.float32
    loss.backward()


def test_texts_all_alike_or_a_single_text_give_finite_losses(case, tiny_method, tiny_batch):
    method, batch = tiny_method(*case), tiny_batch()
    alike = rows_of(batch, torch.zeros(4, dtype=torch.long))
    for some in (alike, rows_of(batch, slice(0, 1))):
        for stage in method.stages:
            method.stage = stage
            result = method(**some)
            assert all(value.isfinite() for value in result.values())
            result["loss"].backward()
    assert all(p.grad.isfinite().all() for p in method.parameters() if p.grad is not None)


def test_the_method_learns_its_own_loss(case, tiny_method, tiny_batch):
    method, batch = tiny_method(*case), tiny_batch()
    method.stage = method.stages[0]
    optimizer = torch.optim.AdamW(method.parameters(), lr=3e-3)
    seen = []
    for _ in range(12):
        if hasattr(method, "queue"):  # every step compares with the same texts, of which there are no more than before
            method.queue.pushed.zero_()
        optimizer.zero_grad()
        torch.manual_seed(0)
        loss = method(**batch)["loss"]
        loss.backward()
        optimizer.step()
        seen.append(loss.item())
    assert seen[-1] < seen[0] - 0.02 * abs(seen[0])


# ---- stages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "index"), STAGED)
def test_a_stage_weighs_only_terms_that_the_method_computes(name, index, tiny_method, tiny_batch):
    method = tiny_method(name)
    assert set(method.stages[index].weights) <= set(terms_of(method, tiny_batch()))


def test_the_shares_of_the_stages_sum_to_1(case, tiny_method):
    assert sum(stage.share for stage in tiny_method(*case).stages) == pytest.approx(1)


def test_a_weight_of_an_unknown_term_is_refused_naming_both_lists(case, tiny_method, tiny_batch):
    method = tiny_method(*case)
    method.stage = Stage("mine", {"cosnce": 1.0, "hard": 1.0, "sotf": 0.0})
    with pytest.raises(UserError) as error:
        method(**tiny_batch())
    assert "'cosnce'" in str(error.value)
    assert "'sotf'" in str(error.value)
    assert "'mine'" in str(error.value)
    for term in terms_of(method, tiny_batch()):
        assert repr(term) in str(error.value)


# ---- what a method says of itself ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_the_docstring_names_the_paper_and_every_setting(name):
    doc = METHODS[name].__doc__
    if name not in ("finetune", "sft"):
        title, *_ = doc.splitlines()
        assert re.search(rf"\w.*\. \w+ et al\., .*\b(19|20)\d\d\. {SOURCE}$", title), title
    for setting in method_settings(name):
        assert re.search(rf'^    {setting}: [\w"]', doc, re.MULTILINE), setting


@pytest.mark.parametrize("name", METHODS)
def test_the_registrys_name_is_the_classs_own_and_its_settings_have_simple_defaults(name):
    cls = METHODS[name]
    assert cls.name == name
    assert issubclass(cls, Method)
    parameters = list(inspect.signature(cls.__init__).parameters)
    assert parameters[:4] == ["self", "student", "teacher", "task"]
    assert parameters[4:] == list(method_settings(name))
    assert all(type(default) in (int, float, str, bool) for default in method_settings(name).values())


def test_a_method_without_its_teacher_is_refused_with_the_way_out(case, tiny_model):
    name, settings = case
    task = Pairs() if METHODS[name].per_group else Classification("abc")
    if not METHODS[name].uses_teacher:
        assert METHODS[name](tiny_model(), None, task, **settings).teacher is None
        return
    with pytest.raises(UserError, match=f"{name}.*expected a teacher, got none.*'finetune'"):
        METHODS[name](tiny_model(), None, task, **settings)


@pytest.mark.parametrize("name", ["lrc_bert", "pkd", "tinybert"])
def test_an_unknown_layer_map_or_too_deep_a_student_is_refused(name, tiny_method):
    with pytest.raises(UserError, match=r"'layer_map' of .*: expected one of uniform, skip, last, got 'every'"):
        tiny_method(name, {"layer_map": "every"})
    with pytest.raises(UserError, match=r"1 to 4 layers .* got 5"):
        tiny_method(name, student={"layers": 5})


@pytest.mark.parametrize("layer_map", ["skip", "last"])
@pytest.mark.parametrize("name", ["lrc_bert", "pkd", "tinybert"])
def test_a_map_that_leaves_a_student_of_one_layer_nothing_to_learn_from_is_refused(name, layer_map, tiny_method):
    with pytest.raises(UserError, match=f"'{layer_map}' leaves a student of 1 layer.*'uniform'"):
        tiny_method(name, {"layer_map": layer_map}, student={"layers": 1})


@pytest.mark.parametrize("setting", ["negatives", "queue"])
def test_a_count_below_0_is_refused(setting, tiny_method):
    with pytest.raises(UserError, match=f"'{setting}' of 'lrc_bert': expected a whole number from 0 to .*, got -1"):
        tiny_method("lrc_bert", {setting: -1})


def test_an_unknown_granularity_is_refused(tiny_method):
    with pytest.raises(UserError, match=r"'granularity' of .*: expected one of tokens, cls, mean, got 'word'"):
        tiny_method("lrc_bert", {"granularity": "word"})


def test_tinybert_refuses_a_student_with_other_heads_naming_both_numbers(tiny_method):
    with pytest.raises(UserError, match="the teacher's 4 heads, got 2"):
        tiny_method("tinybert", student={"heads": 2})
    assert tiny_method("lrc_bert", student={"heads": 2}).student.heads == 2


# ---- settings from text --------------------------------------------------------------------------------------------


def test_settings_given_as_text_come_out_in_their_defaults_types():
    given = {"granularity": "cls", "temperature": "2", "negatives": "15", "queue": 64}
    assert read_settings("lrc_bert", given) == {
        "granularity": "cls",
        "temperature": 2.0,
        "negatives": 15,
        "queue": 64,
    }
    assert type(read_settings("kd", {"alpha": 1})["alpha"]) is float
    assert read_settings("finetune", {}) == {}


def test_the_settings_and_defaults_are_those_of_the_constructor():
    assert method_settings("lrc_bert") == {
        "granularity": "tokens",
        "temperature": 1.1,
        "negatives": 0,
        "queue": 0,
        "layer_map": "uniform",
        "compare": "cos_nce",
        "contrast": 1.0,
        "soft": 1.0,
        "hard": 3.0,
    }
    assert method_settings("finetune") == {}


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("kd", {"temprature": "2"}, r"'temprature'; it has \['alpha', 'temperature'\]; did you mean 'temperature'"),
        ("finetune", {"alpha": "1"}, "'finetune' has no setting 'alpha'; it has none"),
        ("kd", {"alpha": "half"}, "'alpha' of 'kd': expected a number from 0 to 1, got 'half'"),
        ("lrc_bert", {"queue": "1.5"}, "'queue' of 'lrc_bert': expected a whole number from 0 to .*, got '1.5'"),
        ("lrc_bert", {"queue": 1.5}, "'queue' of 'lrc_bert': expected a whole number from 0 to .*, got 1.5"),
        ("lrc_bert", {"queue": None}, "'queue' of 'lrc_bert': expected a whole number from 0 to .*, got None"),
        ("lrc_bert", {"queue": math.inf}, "'queue' of 'lrc_bert': expected a whole number from 0 to .*, got inf"),
        ("lrc_bert", {"granularity": 3}, "'granularity' of 'lrc_bert': expected one of tokens, cls, mean, got 3"),
        ("lrc_bert", {"granularity": "word"}, "expected one of tokens, cls, mean, got 'word'"),
        ("lrc_bert", {"layer_map": "top"}, "expected one of uniform, skip, last, got 'top'"),
        ("lrc_bert", {"negatives": "-1"}, "'negatives' of 'lrc_bert': expected a whole number from 0 to .*, got -1"),
        ("lrc_bert", {"queue": "999999999999"}, "'queue' of 'lrc_bert': expected .* to 1,048,576 .texts., got 9999"),
        ("kd", {"temperature": "inf"}, "'temperature' of 'kd': expected a number above 0, at most 1,000, got 'inf'"),
        ("kd", {"temperature": "nan"}, "'temperature' of 'kd': expected a number above 0, at most 1,000, got 'nan'"),
        (
            "kd",
            {"temperature": "1e999"},
            "'temperature' of 'kd': expected a number above 0, at most 1,000, got '1e999'",
        ),
        ("kd", {"temperature": True}, "'temperature' of 'kd': expected a number above 0, at most 1,000, got True"),
        ("kd", {"alpha": 1.5}, "'alpha' of 'kd': expected a number from 0 to 1, got 1.5"),
        ("lrcbert", {}, "expected a method of lrc_bert, .*got 'lrcbert'; did you mean 'lrc_bert'"),
    ],
)
def test_bad_settings_are_refused_by_name(name, given, message):
    with pytest.raises(UserError, match=message):
        read_settings(name, given)
