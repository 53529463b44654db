"""Students with narrow tables, shared layers, or no layers: of every family that can have them."""

import pytest
import torch
from test_make import CONFIGS, COUSINS, LABELS, SIZES, SPECIAL, TEXTS, build, explained, outputs, tokenizer
from transformers import (
    AlbertConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    DebertaV2Config,
    ElectraConfig,
    PreTrainedModel,
)

from contrastill.encoder import Encoder
from contrastill.errors import UserError
from contrastill.shapes import Shape
from contrastill.students import make_student, parse_shape, shape_of
from contrastill.students.families import FAMILIES, Layer, Point, head_linears
from contrastill.students.sample import read_sample, record
from contrastill.students.structure import AS_ALBERT

__all__ = ["tokenizer"]
BERT = BertConfig()
STRUCTURES = ("4/12/2/20+e8", "4/12/2/20+shared", "4/12/2/20+e8+shared", "static-12")
EVERY = {**CONFIGS, **COUSINS}


@pytest.fixture(autouse=True)
def _little(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr("contrastill.students.sample.SAMPLE_TOKENS", 1000)


def teacher_of(family: str, auto=AutoModelForSequenceClassification) -> PreTrainedModel:
    return build(family, auto)


@pytest.fixture(autouse=True, scope="module")
def _cousins_too():
    before = dict(CONFIGS)
    CONFIGS.update(COUSINS)
    yield
    CONFIGS.clear()
    CONFIGS.update(before)


# ---- how they are written


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("4L-312+e128", Shape(4, 312, 12, 1200, 128)),
        ("4/312/12/1200+e128+shared", Shape(4, 312, 12, 1200, 128, True)),
        ("4L-312+shared+e128", Shape(4, 312, 12, 1200, 128, True)),
        ("3L+shared", Shape(3, 768, 12, 3072, None, True)),
        (" static-256 ", Shape(0, 256, 0, 0)),
    ],
)
def test_a_structure_is_written_behind_the_shape(text, shape):
    assert parse_shape(text, BERT) == shape
    assert parse_shape(str(shape), BERT) == shape


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("4L-312+e0", r"at least 2 numbers a word .*got 4/312/12/1200\+e0"),
        ("4L-312+e1", "at least 2 numbers"),
        ("4L-312+e999", r"at most 308 numbers a word \(\+e308; .*no smaller than tables of 312"),
        ("4L-312+e312", "at most 308"),
        ("4L-312+x", r"expected .*\+e128, or \"\+shared\" after a student shape, got '\+x'"),
        ("4L-312+e", r"got '\+e'"),
        ("4L-312+", r"got '\+'"),
        ("4L-312+share", r"did you mean '?\+shared"),
        ("4L-312+e64+e32", "each option of a student shape once"),
        ("4L-312+shared+shared", "each option of a student shape once"),
        ("1L+shared", "2 layers or more to share"),
        ("0/312/12/1200+e8", "at least 1 layer"),
        ("0/16/0/0", "at least 1 layer"),
        ("static", "static-256"),
        ("static-", "static-256"),
        ("static-0", "4 numbers or more"),
        ("static-1024", "at most the teacher's width, 768"),
        ("static-256+e64", "static-256 without options"),
        ("static-256+shared", "no layers to share"),
    ],
)
def test_a_structure_that_cannot_be_is_refused_with_what_to_do(text, complaint):
    with pytest.raises(UserError, match=complaint):
        parse_shape(text, BERT)


def test_a_student_of_a_teacher_with_narrow_tables_has_tables_as_narrow():
    albert = AlbertConfig(**SIZES, **SPECIAL, embedding_size=8)
    assert str(shape_of(albert)) == "4/24/4/48+e8+shared"
    assert str(parse_shape("2L", albert)) == "2/24/4/48+e8+shared"
    assert str(parse_shape("2/12/2/20", albert)) == "2/12/2/20+e8"
    electra = ElectraConfig(**SIZES, **SPECIAL, embedding_size=8)
    assert str(parse_shape("2/12/2/20", electra)) == "2/12/2/20+e8"
    assert str(parse_shape("2/12/2/20+e4", electra)) == "2/12/2/20+e4"
    with pytest.raises(UserError, match=r"at most the teacher's 8 numbers a word \(\+e8\)"):
        parse_shape("2/18/2/20+e9", electra)


# ---- every start of every family


@pytest.mark.parametrize(
    ("family", "auto", "start"),
    [
        *((family, AutoModelForSequenceClassification, "random") for family in EVERY),
        *((family, AutoModelForSequenceClassification, "inherit") for family in ("roberta", "electra", "mpnet")),
        *((family, AutoModel, "inherit") for family in ("bert", "distilbert")),
    ],
)
@pytest.mark.parametrize("shape", STRUCTURES)
def test_it_reads_texts_and_comes_back_from_disk_with_plain_transformers(
    family, shape, start, auto, tokenizer, tmp_path
):
    teacher = teacher_of(family, auto)
    if family not in AS_ALBERT and not shape.startswith("static"):
        with pytest.raises(UserError, match=rf"got {family}: such students are ALBERTs, which compute"):
            make_student(teacher, tokenizer, shape, start, texts=TEXTS)
        return
    student = make_student(teacher, tokenizer, shape, start, texts=TEXTS)
    assert str(shape_of(student.config)) == shape
    assert not student.training
    assert {p.dtype for p in student.parameters()} == {torch.float32}
    if auto is not AutoModel:
        assert student.config.id2label == LABELS["id2label"]
    student.save_pretrained(tmp_path)
    again = auto.from_pretrained(tmp_path, attn_implementation=student.config._attn_implementation).eval()
    ours = outputs(student, tokenizer)
    assert ours.std(0).min() > 0
    torch.testing.assert_close(outputs(again, tokenizer), ours, rtol=0, atol=0)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_tagger_inherits_its_head(family, tokenizer):
    teacher = teacher_of(family, AutoModelForTokenClassification)
    random, inherited = (
        make_student(teacher, tokenizer, "4/12/2/20+e8+shared", start, texts=TEXTS) for start in ("random", "inherit")
    )
    goal = outputs(teacher, tokenizer).flatten(0, -2)
    found = [explained(outputs(student, tokenizer).flatten(0, -2), goal) for student in (random, inherited)]
    assert type(inherited).__name__ == "AlbertForTokenClassification"
    assert found[1] > found[0] + 0.02


def test_a_student_is_as_small_as_its_structure_says(tokenizer):
    teacher = teacher_of("bert")
    plain, narrow, shared, both = (
        sum(p.numel() for p in make_student(teacher, tokenizer, f"4/12/2/20{more}", "random").parameters())
        for more in ("", "+e4", "+shared", "+e4+shared")
    )
    rows = 70 + 40 + 2  # words, positions, types
    layer = 4 * (12 * 12 + 12) + 2 * 12 * 20 + 20 + 12 + 4 * 12
    assert plain - narrow == rows * (12 - 4) + 2 * (12 - 4) - (4 * 12 + 12)
    assert plain - shared == 3 * layer - (12 * 12 + 12)
    assert narrow - both == 3 * layer


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "camembert", "electra", "albert"])
def test_an_albert_of_the_teachers_width_says_what_the_teacher_says(family, tokenizer):
    """All of the teacher is there but for the ridge and, of 4 layers that share, three."""
    teacher = teacher_of(family)
    with torch.no_grad():
        for number in range(1, 5):  # layers that are all the same
            layer, first = (Layer(teacher, FAMILIES[family], n) for n in (number, 1))
            for mine, theirs in zip(vars(layer).values(), vars(first).values(), strict=True):
                if isinstance(mine, torch.nn.Module) and not isinstance(mine, torch.nn.ModuleList):
                    mine.load_state_dict(theirs.state_dict())
            for mine, theirs in zip(layer.qkv, first.qkv, strict=True):
                mine.load_state_dict(theirs.state_dict())
    student = make_student(teacher, tokenizer, "4/24/4/48+shared", "inherit", texts=TEXTS)
    assert student.config.model_type == "albert"
    assert explained(outputs(student.base_model, tokenizer), outputs(teacher.base_model, tokenizer)) > 0.99
    assert explained(outputs(student, tokenizer), outputs(teacher, tokenizer)) > 0.9


@pytest.mark.parametrize("family", ["bert", "distilbert", "mpnet", "albert"])
@pytest.mark.parametrize("shape", ["2/16/4/30+e10", "4/16/4/30+shared"])
def test_an_inherited_structure_tells_more_of_the_teacher_than_a_random_one(family, shape, tokenizer):
    teacher = teacher_of(family, AutoModel)
    goal = outputs(teacher, tokenizer)
    random, inherited = (
        explained(outputs(make_student(teacher, tokenizer, shape, start, texts=TEXTS), tokenizer), goal)
        for start in ("random", "inherit")
    )
    assert inherited > random + 0.02


@pytest.mark.parametrize("family", ["bert", "mpnet", "modernbert"])
def test_a_static_student_inherits_the_mean_of_the_teachers_words(family, tokenizer):
    teacher = teacher_of(family, AutoModel)
    batch = tokenizer(TEXTS[:60], padding=True, return_tensors="pt")
    inputs, mask = {n: batch[n] for n in ("input_ids", "attention_mask")}, batch["attention_mask"].unsqueeze(-1)
    with torch.no_grad():
        hidden = teacher(**inputs).last_hidden_state
        goal = (hidden * mask).sum(1) / mask.sum(1)
        found = []
        for start in ("random", "inherit"):
            student = make_student(teacher, tokenizer, "static-6", start, texts=TEXTS)
            found.append(explained(Encoder(student)(batch, {"pooled"}).pooled, goal))
    assert found[1] > found[0] + 0.02


@pytest.mark.parametrize("shape", STRUCTURES)
def test_it_attends_as_the_teacher_does(shape, tokenizer):
    teacher = teacher_of("bert")
    for attention in ("eager", "sdpa"):
        teacher.set_attn_implementation(attention)
        student = make_student(teacher, tokenizer, shape, "random")
        assert student.config._attn_implementation == attention


# ---- what refuses


def test_a_static_student_has_nothing_to_copy_and_tags_nothing(tokenizer):
    with pytest.raises(UserError, match=r"start='copy', got static-12; use start='inherit'"):
        make_student(teacher_of("bert"), tokenizer, "static-12", "copy")
    with pytest.raises(UserError, match=r"layers for a tagger: a static student reads each word without its context"):
        make_student(teacher_of("bert", AutoModelForTokenClassification), tokenizer, "static-12")


@pytest.mark.parametrize("shape", ["2/24/4/48+shared", "2/24/4/48+e8"])
def test_copy_needs_the_teachers_structure(shape, tokenizer):
    with pytest.raises(UserError, match=r"for start='copy', got 2/24/4/48\+"):
        make_student(teacher_of("bert"), tokenizer, shape, "copy")


def test_another_family_is_refused_with_the_shape_that_it_can_have(tokenizer):
    torch.manual_seed(0)
    teacher = AutoModelForSequenceClassification.from_config(DebertaV2Config(**SIZES, **SPECIAL))
    for shape in ("2/12/2/20+e4", "2/12/2/20+shared"):
        with pytest.raises(UserError, match=r"got deberta-v2: .*leave the option out: 2/12/2/20$"):
            make_student(teacher, tokenizer, shape)
    assert make_student(teacher, tokenizer, "static-12", texts=TEXTS).config.model_type == "eurobert"


@pytest.mark.parametrize("start", ["copy", "inherit"])
def test_whole_layers_of_a_deberta_are_taken(start, tokenizer, caplog):
    torch.manual_seed(0)
    more = {"relative_attention": True, "position_buckets": 8, "pos_att_type": ["p2c", "c2p"], "share_att_key": True}
    config = DebertaV2Config(**SIZES, **SPECIAL, **LABELS, **more, norm_rel_ebd="layer_norm")
    teacher = AutoModelForSequenceClassification.from_config(config).eval()
    whole, half = (make_student(teacher, tokenizer, shape, start, texts=TEXTS) for shape in ("4L", "2L"))
    torch.testing.assert_close(outputs(whole, tokenizer), outputs(teacher, tokenizer), rtol=0, atol=0)
    mine, theirs = half.deberta.encoder, teacher.deberta.encoder
    assert torch.equal(mine.rel_embeddings.weight, theirs.rel_embeddings.weight)
    for i, j in ((0, 1), (1, 3)):
        ours, all_of_it = mine.layer[i].state_dict(), theirs.layer[j].state_dict()
        assert all(torch.equal(value, all_of_it[name]) for name, value in ours.items())
    assert "random" not in caplog.text


# ---- a folder as a start


@pytest.mark.parametrize("shape", STRUCTURES)
def test_a_student_that_was_saved_is_a_start(shape, tokenizer, tmp_path):
    teacher = teacher_of("bert")
    first = make_student(teacher_of("bert", AutoModel), tokenizer, shape, "random", seed=3)
    first.save_pretrained(tmp_path)
    student = make_student(teacher, tokenizer, shape, tmp_path)
    assert type(student).__name__.endswith("ForSequenceClassification")
    torch.testing.assert_close(outputs(student.base_model, tokenizer), outputs(first, tokenizer), rtol=0, atol=0)
    with pytest.raises(UserError, match=r"expected a start with shape 2/24/4/48, got"):
        make_student(teacher, tokenizer, "2L", tmp_path)


# ---- shared layers


def test_a_shared_layer_is_recorded_at_each_of_its_places(tokenizer):
    student = make_student(teacher_of("bert", AutoModel), tokenizer, "3/12/2/20+shared", "random")
    sample = read_sample(tokenizer, TEXTS[:8], student.config, 0)
    points = {str(n): Layer(student, FAMILIES["albert"], n).stream for n in (1, 2, 3)}
    seen = record(student, sample, points)
    for ids, mask in sample:
        with torch.no_grad():
            hidden = student(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
        for n in (1, 2, 3):
            torch.testing.assert_close(seen[str(n)], hidden[n][mask.bool()])


def test_of_groups_each_layer_is_found(tokenizer):
    torch.manual_seed(0)
    model = AutoModel.from_config(AlbertConfig(**SIZES, **SPECIAL, embedding_size=8, num_hidden_groups=2)).eval()
    layers = [Layer(model, FAMILIES["albert"], n) for n in (1, 2, 3, 4)]
    assert [layer.call for layer in layers] == [0, 1, 0, 1]
    assert layers[0].reader is layers[1].reader is not layers[2].reader
    sample = read_sample(tokenizer, TEXTS[:8], model.config, 0)
    seen = record(model, sample, {"3": layers[2].stream, "top": Point(layers[3].stream.module, "output", 1)})
    ids, mask = sample[0]
    with torch.no_grad():
        hidden = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    torch.testing.assert_close(seen["3"], hidden[3][mask.bool()])
    torch.testing.assert_close(seen["top"], hidden[4][mask.bool()])


def test_a_copy_of_shared_layers_shares_them(tokenizer):
    torch.manual_seed(0)
    config = AlbertConfig(**SIZES, **SPECIAL, **LABELS, embedding_size=8)
    teacher = AutoModelForSequenceClassification.from_config(config).eval()
    for start in ("copy", "inherit"):
        student = make_student(teacher, tokenizer, "4L", start, texts=TEXTS)
        torch.testing.assert_close(outputs(student, tokenizer), outputs(teacher, tokenizer), rtol=0, atol=0)
        assert make_student(teacher, tokenizer, "2L", start, texts=TEXTS).config.num_hidden_groups == 1
    narrower = make_student(teacher, tokenizer, "2/12/2/20", "inherit", texts=TEXTS)
    assert (narrower.config.num_hidden_groups, narrower.config.embedding_size) == (2, 8)


def test_what_a_head_of_another_activation_says_is_solved_for(tokenizer):
    teacher = teacher_of("distilbert")
    student = make_student(teacher, tokenizer, "4/24/4/48+shared", "inherit", texts=TEXTS)
    dense, last = head_linears(student)
    assert torch.equal(dense.weight, 0.3 * torch.eye(24))
    assert last.out_features == 3


# ---- as methods see them


def test_a_student_without_layers_gives_its_word_vectors(tokenizer):
    student = make_student(teacher_of("bert"), tokenizer, "static-12", texts=TEXTS)
    encoder, batch = Encoder(student), tokenizer(TEXTS[:3], padding=True, return_tensors="pt")
    seen = encoder(batch, {"hidden", "logits"})
    assert (encoder.depth, encoder.width, len(seen.hidden)) == (0, 12, 1)
    alone = encoder({"input_ids": batch["input_ids"][:1, :2], "attention_mask": torch.ones(1, 2)}, {"hidden"})
    torch.testing.assert_close(seen.hidden[0][:1, :2], alone.hidden[0])  # whatever stands around a word
    assert seen.logits.shape == (3, 3)


@pytest.mark.parametrize("family", ["albert", "electra"])
def test_hidden_states_begin_behind_the_narrow_tables(family, tokenizer):
    config = {"albert": AlbertConfig, "electra": ElectraConfig}[family](**SIZES, **SPECIAL, embedding_size=8)
    torch.manual_seed(0)
    encoder, seen = Encoder(AutoModel.from_config(config).eval()), []
    batch = tokenizer(TEXTS[:3], padding=True, return_tensors="pt")
    encoder.embeddings.register_forward_hook(lambda module, args, output: seen.append(output))
    hidden = encoder(batch, {"hidden"}).hidden
    assert len(hidden) == 5
    torch.testing.assert_close(seen[0], hidden[0])
