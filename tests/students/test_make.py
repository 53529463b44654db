"""Students of every family, from small random teachers built here."""

import json
import logging
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AlbertConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    CamembertConfig,
    Data2VecTextConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ErnieConfig,
    FunnelConfig,
    LongformerConfig,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    RobertaConfig,
    XLMRobertaConfig,
)

from contrastill.errors import UserError
from contrastill.shapes import PRESETS, STARTS, Shape
from contrastill.students import make_student, parse_shape
from contrastill.students.families import FAMILIES

WORDS = [f"w{i}" for i in range(60)]
TEXTS = [" ".join(WORDS[(7 * i + 3 * k * k) % 60] for k in range(3 + i % 9)) for i in range(200)]
SIZES = {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 48}
SPECIAL = {"vocab_size": 70, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "max_position_embeddings": 40}
DISTIL = {"dim": 24, "n_layers": 4, "n_heads": 4, "hidden_dim": 48}
CONFIGS = {
    "bert": lambda **own: BertConfig(**SIZES, **SPECIAL, **own),
    "roberta": lambda **own: RobertaConfig(**SIZES, **SPECIAL, **own),
    "distilbert": lambda **own: DistilBertConfig(**DISTIL, **SPECIAL, **own),
    "mpnet": lambda **own: MPNetConfig(**SIZES, **SPECIAL | {"pad_token_id": 1}, **own),
    "modernbert": lambda **own: ModernBertConfig(**SIZES, **SPECIAL, cls_token_id=2, sep_token_id=3, **own),
}
CONFIGS["albert"] = lambda **own: AlbertConfig(**SIZES, **SPECIAL, embedding_size=24, num_hidden_groups=4, **own)
COUSINS = {  # BERT or RoBERTa in all but name
    "camembert": lambda **own: CamembertConfig(**SIZES, **SPECIAL, **own),
    "data2vec-text": lambda **own: Data2VecTextConfig(**SIZES, **SPECIAL, **own),
    "electra": lambda **own: ElectraConfig(**{**SIZES, "embedding_size": 24, **own}, **SPECIAL),
    "ernie": lambda **own: ErnieConfig(**SIZES, **SPECIAL, **own),
    "xlm-roberta": lambda **own: XLMRobertaConfig(**SIZES, **SPECIAL, **own),
}
every_family = pytest.mark.parametrize("family", CONFIGS)
LABELS = {"id2label": {0: "no", 1: "maybe", 2: "yes"}, "label2id": {"no": 0, "maybe": 1, "yes": 2}}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    model = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    model.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    model.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=model, **{f"{k}_token": v for k, v in names.items()})


def build(family: str, auto=AutoModelForSequenceClassification, seed: int = 0, **own) -> PreTrainedModel:
    """A teacher whose weights are large enough for every part to matter."""
    torch.manual_seed(seed)
    model = auto.from_config(CONFIGS[family](**(own if auto is AutoModel else LABELS | own))).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2 and "embedding" not in name:
                weight.normal_(std=0.2)
            elif weight.dim() == 1:
                weight.add_(0.1 * torch.randn_like(weight))
    return model


def outputs(model: PreTrainedModel, tokenizer, texts=TEXTS[:40]) -> torch.Tensor:
    encoded = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        y = model(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"])[0]
    return y if y.dim() == 2 else y[encoded["attention_mask"].bool()]


def explained(x: torch.Tensor, y: torch.Tensor) -> float:
    """Share of y's variance that a linear map of x explains."""
    x = torch.cat([x, torch.ones(len(x), 1)], 1)
    y = y - y.mean(0)
    # not the default driver: gelsy takes its pivots from memory as it finds it (pytorch issue 187411)
    best = torch.linalg.lstsq(x, y, driver="gelsd").solution
    return 1 - float((y - x @ best).square().sum() / y.square().sum())


# ---- shapes


def test_a_shape_is_a_preset_or_layers_of_the_teacher_or_four_numbers():
    config = BertConfig()
    assert PRESETS.keys() == {"4L-312", "6L-768"}
    assert parse_shape("4L-312", config) == Shape(4, 312, 12, 1200)
    assert parse_shape("6L-768", config) == Shape(6, 768, 12, 3072)
    assert parse_shape("3L", config) == Shape(3, 768, 12, 3072)
    assert parse_shape("3L", DistilBertConfig()) == Shape(3, 768, 12, 3072)
    assert parse_shape(" 4/256/8/1024 ", config) == Shape(4, 256, 8, 1024)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("tiny", "got 'tiny'"),
        ("4/312/12", "layers/hidden/heads/ffn"),
        ("", "4L-312"),
        ("0L", "at least 1"),
        ("2/0/1/8", "at least 1"),
        ("13L", "12 layers"),
        ("2/1024/16/2048", "width of 768"),
        ("2/100/12/400", "divides the width 100"),
        ("2/96/12/40000", "3072 feed-forward neurons"),
    ],
)
def test_a_shape_that_cannot_be_is_refused_with_the_form_to_use(text, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        parse_shape(text, BertConfig())
    assert "4L-312" in str(error.value)
    assert "4/312/12/1200" in str(error.value)


def test_rotary_positions_need_an_even_width_per_head(tokenizer):
    with pytest.raises(UserError, match="even width per head"):
        parse_shape("2/12/4/24", CONFIGS["modernbert"]())
    with pytest.raises(UserError, match="divides"):
        make_student(build("bert"), tokenizer, Shape(2, 10, 4, 24))


# ---- every start for every family


def test_the_families_are_the_six_and_their_cousins():
    assert set(CONFIGS) | set(COUSINS) == set(FAMILIES)
    assert STARTS == ("random", "copy", "inherit")


@every_family
@pytest.mark.parametrize("auto", [AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification])
@pytest.mark.parametrize(("start", "shape"), [("random", "2/12/2/20"), ("copy", "2L"), ("inherit", "2/12/2/20")])
def test_a_student_runs_and_comes_back_from_disk_with_plain_transformers(
    family, auto, start, shape, tokenizer, tmp_path, monkeypatch
):
    monkeypatch.setattr("contrastill.students.sample.SAMPLE_TOKENS", 1000)
    teacher = build(family, auto)
    student = make_student(teacher, tokenizer, shape, start, texts=TEXTS)
    assert type(student) is type(teacher)
    assert not student.training
    assert {p.dtype for p in student.parameters()} == {torch.float32}
    assert str(parse_shape(shape, teacher.config)) == str(
        parse_shape(f"{student.config.num_hidden_layers}L", student.config)
    )
    if auto is not AutoModel:
        assert student.config.id2label == LABELS["id2label"]
    student.save_pretrained(tmp_path)
    again = auto.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(outputs(again, tokenizer), outputs(student, tokenizer), rtol=0, atol=0)


@every_family
def test_a_copy_of_all_layers_is_the_teacher(family, tokenizer):
    teacher = build(family)
    for start in ("copy", "inherit"):
        student = make_student(teacher, tokenizer, "4L", start, texts=TEXTS)
        torch.testing.assert_close(outputs(student, tokenizer), outputs(teacher, tokenizer), rtol=0, atol=0)
        assert all(
            a.data_ptr() != b.data_ptr() for a, b in zip(student.parameters(), teacher.parameters(), strict=True)
        )


def test_a_copy_takes_evenly_spaced_layers(tokenizer):
    teacher = build("bert")
    student = make_student(teacher, tokenizer, "2L", "copy")
    for i, j in ((1, 2), (2, 4)):
        mine, theirs = student.bert.encoder.layer[i - 1].state_dict(), teacher.bert.encoder.layer[j - 1].state_dict()
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_layers_that_see_the_whole_text_keep_that_pattern(tokenizer):
    teacher = build("modernbert")
    teacher.config.layer_types = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    student = make_student(teacher, tokenizer, "2L", "copy")
    assert student.config.layer_types == ["sliding_attention", "full_attention"]


def test_copy_needs_the_teachers_width(tokenizer):
    with pytest.raises(UserError, match="start='inherit'"):
        make_student(build("bert"), tokenizer, "2/12/2/20", "copy")


# ---- inherit


@pytest.mark.parametrize("auto", [AutoModelForSequenceClassification, AutoModelForTokenClassification])
@pytest.mark.parametrize(("family", "own"), [*((f, {}) for f in CONFIGS), ("modernbert", {"attention_bias": True})])
def test_inherit_drops_neurons_that_do_nothing_without_loss(family, own, auto, tokenizer):
    """At the teacher's width every formula is exact (attention, rotary or not, feed-forward), but for the ridge."""
    teacher = build(family, auto, **own)
    idle = [m for m in teacher.modules() if isinstance(m, torch.nn.Linear) and m.in_features == 48]
    assert len(idle) == 4
    with torch.no_grad():
        for down in idle:
            down.weight[:, ::2] = 0
    student = make_student(teacher, tokenizer, "4/24/4/24", "inherit", texts=TEXTS)
    assert explained(outputs(student.base_model, tokenizer), outputs(teacher.base_model, tokenizer)) > 0.999
    assert explained(outputs(student, tokenizer), outputs(teacher, tokenizer)) > 0.98


@every_family
@pytest.mark.parametrize(
    "shape", ["2/24/2/48", "2/24/6/64", "2/16/4/30"], ids=["fewer heads", "more heads", "narrower"]
)
def test_an_inherited_student_tells_more_of_the_teacher_than_a_random_one(family, shape, tokenizer):
    teacher = build(family, AutoModel)
    goal = outputs(teacher, tokenizer)
    random, inherited = (
        explained(outputs(make_student(teacher, tokenizer, shape, start, texts=TEXTS), tokenizer), goal)
        for start in ("random", "inherit")
    )
    assert inherited > random + 0.05


def test_inherit_does_without_texts(tokenizer):
    teacher = build("bert")
    student = make_student(teacher, tokenizer, "2/12/2/20")
    assert outputs(student, tokenizer).isfinite().all()
    with pytest.raises(UserError, match="got none"):
        make_student(teacher, tokenizer, "2/12/2/20", texts=[])


@pytest.mark.parametrize("own", [*({"family": name} for name in COUSINS), {"family": "electra", "embedding_size": 8}])
def test_the_cousins_inherit_their_layers(tokenizer, own, caplog):
    """A student at half the width has the teacher's directions, which one with random layers has not."""
    config = COUSINS[own["family"]](**{key: value for key, value in own.items() if key != "family"})
    torch.manual_seed(0)
    teacher = AutoModel.from_config(config).eval()
    with torch.no_grad():
        for name, weight in teacher.named_parameters():
            if weight.dim() > 1 and "embeddings." not in name:
                weight.mul_(6)  # layers that matter
    student = make_student(teacher, tokenizer, "4/12/4/24", "inherit", texts=TEXTS)
    random = make_student(teacher, tokenizer, "4/12/4/24", "random")
    batch = tokenizer(TEXTS[:40], padding=True, return_tensors="pt")
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        hidden = [m(**inputs).last_hidden_state[batch["attention_mask"].bool()] for m in (teacher, student, random)]
    assert explained(hidden[0], hidden[1]) > explained(hidden[0], hidden[2]) + 0.1
    assert caplog.text == ""


NARROWED = {
    "deberta": lambda: DebertaV2Config(
        **SIZES, **SPECIAL, pooler_hidden_size=24, relative_attention=True, position_buckets=8,
        pos_att_type=["p2c", "c2p"], norm_rel_ebd="layer_norm", share_att_key=True,
    ),
    "deberta with head sizes": lambda: DebertaV2Config(**SIZES, **SPECIAL, attention_head_size=6),
    "electra": lambda: ElectraConfig(**SIZES, **SPECIAL, embedding_size=24),
    "electra with narrow tables": lambda: ElectraConfig(**SIZES, **SPECIAL, embedding_size=8),
    "qwen2": lambda: Qwen2Config(**SIZES, **SPECIAL, num_key_value_heads=2),
    "longformer": lambda: LongformerConfig(**SIZES, **SPECIAL | {"pad_token_id": 1}, attention_window=[4, 8, 4, 8]),
}  # fmt: skip


@pytest.mark.parametrize("shape", ["2/12/2/20", "2/18/3/20"])
@pytest.mark.parametrize("teacher", NARROWED)
def test_whatever_follows_the_width_follows_the_students(teacher, shape, tokenizer):
    torch.manual_seed(0)
    teacher = AutoModelForSequenceClassification.from_config(NARROWED[teacher]()).eval()
    student = make_student(teacher, tokenizer, shape, "random")
    batch = tokenizer(TEXTS[:1], return_tensors="pt")
    assert student(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.shape == (1, 2)
    assert student.config.hidden_size == int(shape.split("/")[1])


def test_a_shape_that_an_architecture_cannot_have_is_refused_before_any_work(tokenizer):
    config = FunnelConfig(d_model=24, n_head=4, d_head=6, d_inner=48, block_sizes=[2, 2], vocab_size=70)
    teacher = AutoModelForSequenceClassification.from_config(config)
    with pytest.raises(UserError, match=r"a funnel of the shape 2/12/2/20 \(layers/hidden/heads/ffn\) cannot"):
        make_student(teacher, tokenizer, "2/12/2/20", "random")


def test_a_teacher_whose_layers_are_alike_for_all_texts_is_an_error(tokenizer):
    teacher = build("bert")
    with torch.no_grad():
        for weight in teacher.parameters():
            weight.zero_()
    with pytest.raises(UserError, match="the same for every text; check the teacher's weights"):
        make_student(teacher, tokenizer, "2/12/2/20", "inherit", texts=TEXTS[:20])


def test_of_an_unknown_family_inherit_takes_the_embeddings_and_says_so(tokenizer, caplog):
    torch.manual_seed(0)
    teacher = AutoModel.from_config(DebertaV2Config(**SIZES, **SPECIAL)).eval()
    with caplog.at_level(logging.WARNING, logger="contrastill.students"):
        student = make_student(teacher, tokenizer, "2/12/2/20", "inherit", texts=TEXTS)
    assert "deberta-v2" in caplog.text
    assert "the layers are random" in student.doubt
    mine, theirs = (model.get_input_embeddings().weight.detach() for model in (student, teacher))
    assert explained(theirs, mine) > 0.999


def test_a_half_precision_teacher_in_training_mode_is_left_as_it_was(tokenizer):
    teacher = build("bert").to(torch.bfloat16).train()
    student = make_student(teacher, tokenizer, "2/12/2/20", "inherit", texts=TEXTS[:50])
    assert teacher.training
    assert {p.dtype for p in student.parameters()} == {torch.float32}


# ---- what holds for all starts


@pytest.mark.parametrize(("start", "shape"), [("random", "2/12/2/20"), ("inherit", "2/12/2/20"), ("copy", "2L")])
def test_a_seed_decides_everything_and_the_global_random_state_stays(start, shape, tokenizer):
    teacher = build("bert")
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one, same, other = (make_student(teacher, tokenizer, shape, start, seed=seed, texts=TEXTS) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(outputs(one, tokenizer), outputs(same, tokenizer))
    assert (start == "copy") == torch.equal(outputs(one, tokenizer), outputs(other, tokenizer))


def test_another_teachers_tokenizer_is_refused(tokenizer):
    with pytest.raises(UserError, match="the tokenizer belongs to another model"):
        make_student(small_vocabulary(), tokenizer, "2L")


def small_vocabulary() -> PreTrainedModel:
    return AutoModel.from_config(BertConfig(**SIZES, **SPECIAL | {"vocab_size": 50}))


# ---- start from a folder


@pytest.fixture
def folder(tmp_path, tokenizer) -> Path:
    """A general student: a bare encoder with its tokenizer."""
    make_student(build("bert", AutoModel), tokenizer, "2/12/2/20", "random", seed=5).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_a_folder_gives_its_encoder_and_a_new_head_with_the_teachers_labels(folder, tokenizer):
    teacher = build("bert")
    torch.manual_seed(7)
    before = torch.get_rng_state()
    student = make_student(teacher, tokenizer, "2/12/2/20", folder)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(outputs(student.bert, tokenizer), outputs(AutoModel.from_pretrained(folder), tokenizer))
    assert student.config.id2label == LABELS["id2label"]
    again = make_student(teacher, tokenizer, "2/12/2/20", str(folder))
    assert torch.equal(outputs(student, tokenizer), outputs(again, tokenizer))


def test_a_head_for_other_labels_gives_way_to_a_new_one(tokenizer, tmp_path):
    make_student(
        build("bert", id2label={0: "a", 1: "b"}, label2id={"a": 0, "b": 1}), tokenizer, "2L", "copy"
    ).save_pretrained(tmp_path)
    student = make_student(build("bert"), tokenizer, "2L", tmp_path)
    assert student.classifier.out_features == 3


def test_a_start_that_is_no_word_and_no_folder_is_refused(tokenizer):
    with pytest.raises(UserError, match=r"random, copy, inherit or a folder .* got 'inherrit'"):
        make_student(build("bert"), tokenizer, "2L", "inherrit")


def test_a_folder_of_another_shape_or_family_is_refused(folder, tokenizer):
    with pytest.raises(UserError, match=r"expected .* shape 2/24/4/48, got 2/12/2/20"):
        make_student(build("bert"), tokenizer, "2L", folder)
    with pytest.raises(UserError, match=r"model_type mpnet, got bert"):
        make_student(build("mpnet"), tokenizer, "2/12/2/20", folder)


def test_a_folder_with_another_vocabulary_is_refused(folder, tokenizer):
    words = json.loads((folder / "tokenizer.json").read_text())
    words["model"]["vocab"]["other"] = words["model"]["vocab"].pop("w3")
    (folder / "tokenizer.json").write_text(json.dumps(words))
    with pytest.raises(UserError, match="vocabulary"):
        make_student(build("bert"), tokenizer, "2/12/2/20", folder)
    with pytest.raises(UserError, match="vocab_size 50, got 70"):
        make_student(small_vocabulary(), tokenizer_of(50, tokenizer), "2/12/2/20", folder)


def tokenizer_of(size: int, tokenizer) -> PreTrainedTokenizerFast:
    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    spec["model"]["vocab"] = {word: i for word, i in spec["model"]["vocab"].items() if i < size}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(spec)), unk_token="[UNK]")


def test_damaged_weights_are_named(folder, tokenizer):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"the weights of .* are damaged"):
        make_student(build("bert"), tokenizer, "2/12/2/20", folder)


def test_pickled_weights_are_not_read(folder, tokenizer):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"expected weights in model\.safetensors, got pytorch_model\.bin"):
        make_student(build("bert"), tokenizer, "2/12/2/20", folder)


def test_a_folder_that_lacks_a_layers_weights_is_refused(folder, tokenizer):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lack 1 tensors .*encoder\.layer\.1\.output\.dense\.weight"):
        make_student(build("bert"), tokenizer, "2/12/2/20", folder)


def test_a_damaged_config_is_named(folder, tokenizer):
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        make_student(build("bert"), tokenizer, "2/12/2/20", folder)
