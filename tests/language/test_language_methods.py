"""Methods for language models: their terms beside loops over tokens, their texts, and what a step is divided by."""

import copy
import math
import sys

import pytest
import torch
from batches import batch_of
from tiny_language import gpt2, llama

from contrastill.errors import UserError
from contrastill.language import CausalLM, answer_tokens
from contrastill.methods import METHODS, LanguageMethod, method_settings
from contrastill.tasks import Classification, Language

ROWS = [([1, 10, 2, 11], [3, 12]), ([11], [5, 6, 7, 12]), ([9, 9, 10, 0, 1, 11], [12])]
MORE = [([4, 10, 4, 11], [8, 12]), ([3, 11], [1, 12]), ([5, 11], [0, 0, 12])]
TASK = Language(ends=(12,), pad=12, longest_prompt=8, new_tokens=5, seed=3)
NAMES = [name for name, cls in METHODS.items() if cls.serves(Language)]


def made(name, make=llama, **settings):
    student, teacher = make(16, 1, 1, spread=0.5), make(24, 2, 2, spread=0.5)
    method = METHODS[name](student, teacher if METHODS[name].uses_teacher else None, TASK, **settings)
    method.set_stage(0, 10)
    return method.train()


def learnt(method, batch=None):
    """The loss, and the student's gradients."""
    method.zero_grad()
    found = method(**(batch or batch_of(ROWS)))
    found["loss"].backward()
    return found, torch.cat([p.grad.flatten() for p in method.student.parameters()])


def test_there_are_methods_and_they_serve_nothing_else():
    assert NAMES == ["sft", "gkd", "skd", "distillm", "atkd", "okd"]
    for name, cls in METHODS.items():
        assert issubclass(cls, LanguageMethod) == (name in NAMES)
        assert not (cls.serves(Language) and cls.serves(Classification))
    with pytest.raises(UserError, match="needs tokens"):
        METHODS["gkd"](llama(), llama(), Classification("abc"))


@pytest.mark.parametrize("name", NAMES)
def test_a_step_gives_finite_terms_of_every_stage_and_gradients_to_the_student_alone(name):
    method = made(name)
    before = {key: value.clone() for key, value in method.teacher.lm.state_dict().items()} if method.teacher else {}
    assert not any(p.requires_grad for p in method.teacher.lm.parameters()) if method.teacher else True
    for stage in method.stages:
        method.stage = stage
        found, gradient = learnt(method)
        assert set(stage.weights) <= set(found)
        assert all(value.isfinite() for value in found.values())
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0
    for key, value in before.items():
        assert value.equal(method.teacher.lm.state_dict()[key])


@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_gkd_is_the_divergence_of_each_token_written_out(make, beta):
    method = made("gkd", make, beta=beta)
    found, _ = learnt(method)
    values = []
    for prompt, answer in ROWS:
        ids = torch.tensor([prompt + answer])
        logits = [
            m(input_ids=ids).logits[0, len(prompt) - 1 : -1] for m in (method.student.model, method.teacher.model)
        ]
        for q, p in zip(*(x.softmax(-1) for x in logits), strict=True):
            m = beta * p + (1 - beta) * q
            if beta == 0:
                values.append((p * (p / q).log()).sum())
            elif beta == 1:
                values.append((q * (q / p).log()).sum())
            else:
                values.append(beta * (p * (p / m).log()).sum() + (1 - beta) * (q * (q / m).log()).sum())
    assert float(found["loss"]) == pytest.approx(float(torch.stack(values).mean()), rel=1e-4)


def test_atkd_divides_a_steps_tokens_at_their_median():
    method = made("atkd", easy=0.3, share=0.5, hard=0.1)
    found, _ = learnt(method)
    batch = batch_of(ROWS)
    q, p = CausalLM(method.student.model)(batch).log_softmax(-1), CausalLM(method.teacher.model)(batch).log_softmax(-1)
    target, rows = answer_tokens(batch), []
    for at, y in enumerate(target.tolist()):
        py, qy = p[at, y].exp(), q[at, y].exp()
        of_target = py * (py / qy).log() + (1 - py) * ((1 - py) / (1 - qy)).log()
        others = [v for v in range(13) if v != y]
        of_others = sum(
            p[at, v].exp() / (1 - py) * ((p[at, v].exp() / (1 - py)) / (q[at, v].exp() / (1 - qy))).log()
            for v in others
        )
        rows.append((float(1 - py), float(of_target), float(of_others), float(-q[at, y])))
    rows.sort()
    assert len(rows) == 7
    median = rows[3][0]
    easy, difficult = [r for r in rows if r[0] < median], [r for r in rows if r[0] >= median]
    wanted = {
        "easy": sum(r[2] for r in easy) / len(easy),
        "difficult": sum(r[1] + r[2] for r in difficult) / len(difficult),
        "hard": sum(r[3] for r in rows) / len(rows),
    }
    for name, value in wanted.items():
        assert float(found[name]) == pytest.approx(value, rel=1e-3)
    assert float(found["loss"]) == pytest.approx(
        0.3 * wanted["easy"] + 0.7 * wanted["difficult"] + 0.1 * wanted["hard"], rel=1e-3
    )


def test_atkd_survives_a_teacher_that_is_sure_of_all():
    method = made("atkd")
    with torch.no_grad():
        method.teacher.model.lm_head.weight.mul_(1e4)
    found, gradient = learnt(method)
    assert all(value.isfinite() for value in found.values())
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", [name for name in NAMES if not METHODS[name].across_batch])
@pytest.mark.parametrize("parts", [2, 3])
def test_a_step_in_parts_has_the_gradient_of_the_whole(name, parts):
    rows = [*ROWS, *MORE]
    settings = {"source": "student"} if name in ("gkd", "distillm") else {}
    method = made(name, **settings)
    method.stage = method.stages[-1]
    whole = batch_of(rows)
    _, wanted = learnt(method, whole)
    size = len(rows) // parts
    split = [{key: value[n : n + size] for key, value in whole.items()} for n in range(0, len(rows), size)]
    method.zero_grad()
    for part in method.before_step(split):
        (method(**part)["loss"] / parts).backward()
    got = torch.cat([p.grad.flatten() for p in method.student.parameters()])
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_logits_formed_in_slices_change_nothing(name, monkeypatch):
    method = made(name)
    method.stage = method.stages[-1]
    wanted, gradient = learnt(method)
    monkeypatch.setattr("contrastill.language.LOGITS", 26)  # two tokens at a time
    got, sliced = learnt(method)
    assert {k: float(v) for k, v in got.items()} == pytest.approx({k: float(v) for k, v in wanted.items()}, rel=1e-5)
    torch.testing.assert_close(sliced, gradient, rtol=1e-4, atol=1e-6)


def test_a_larger_head_of_the_same_tokenizer_is_cut():
    student = llama(16, 1, 1, spread=0.5)
    method = METHODS["gkd"](student, llama(24, 2, 2, vocabulary=16, spread=0.5), TASK)
    same = copy.deepcopy(method.teacher.model)
    same.resize_token_embeddings(13)
    twin = METHODS["gkd"](student, same, TASK)
    assert float(method(**batch_of(ROWS))["loss"]) == pytest.approx(float(twin(**batch_of(ROWS))["loss"]), rel=1e-5)


# ---- texts


def text_of(method, step, rows=ROWS):
    method.set_stage(step, 100)
    batch = method.text(batch_of(rows))
    return [ids[real].tolist() for ids, real in zip(batch["answer"], batch["answer_mask"], strict=True)]


@pytest.mark.parametrize(
    "settings",
    [{"name": "gkd", "source": "student"}, {"name": "gkd", "source": "teacher"}, {"name": "skd", "temperature": 2.0}],
)
def test_a_text_follows_from_seed_step_and_row_alone(settings):
    settings = dict(settings)
    name = settings.pop("name")
    method = made(name, **settings)
    first = text_of(method, 4)
    assert text_of(method, 4) == first
    assert text_of(method, 5) != first
    batch = {key: value.flip(0) for key, value in batch_of(ROWS).items()}
    method.set_stage(4, 100)
    turned = method.text(batch)
    assert [ids[real].tolist() for ids, real in zip(turned["answer"], turned["answer_mask"], strict=True)][
        ::-1
    ] == first
    torch.manual_seed(77)
    assert text_of(made(name, **settings), 4) == first


def test_skd_is_the_teachers_text_at_0_and_the_students_at_all_words():
    heat = {"temperature": 1.0, "top_p": 1.0, "teacher_temperature": 1.0, "teacher_top_p": 1.0}
    assert text_of(made("skd", top_k=0, **heat), 2) == text_of(made("gkd", source="teacher"), 2)
    assert text_of(made("skd", top_k=13, **heat), 2) == text_of(made("gkd", source="student"), 2)
    between = made("skd", top_k=3, **heat)
    between.set_stage(2, 100)
    found = between.text(batch_of(ROWS))
    assert 0 < float(found["seen_accepted"]) < 1
    assert float(made("skd", top_k=13, **heat).text(batch_of(ROWS))["seen_accepted"]) == 1


@pytest.mark.parametrize("draft", [1, 2, 7])
def test_the_draft_changes_no_text(draft):
    assert text_of(made("skd", draft=draft, top_k=2), 1) == text_of(made("skd", top_k=2), 1)


def test_gkd_mixes_given_and_own_texts_by_the_step():
    method = made("gkd", source="student", share=0.5)
    given = [answer for _, answer in ROWS]
    own = [text_of(method, step) != given for step in range(60)]
    assert 15 < sum(own) < 45


# ---- DistiLLM's replay


def adaptive(**settings):
    method = made("distillm", replay=8, **settings)
    method.set_stage(50, 100)
    return method


def test_the_share_of_own_texts_grows_where_the_dev_loss_rises():
    method = adaptive()
    for loss, own in ((2.0, 0), (2.05, 0), (1.5, 0), (2.09, 0), (2.1, 0.1), (2.15, 0.1), (2.3, 0.2), (2.3, 0.2)):
        method.after_check({"loss": loss})
        assert float(method.own) == pytest.approx(own)
    for _ in range(12):
        method.after_check({"loss": float(method.last) + 1})
    assert float(method.own) == 1
    assert float(adaptive(share=0.3).own) == pytest.approx(0.3)


def test_the_first_stage_learns_the_given_answers_and_counts_no_check():
    method = adaptive()
    method.set_stage(0, 100)
    method.after_check({"loss": 9.0})
    assert math.isinf(float(method.last))
    method.own.fill_(1)
    assert text_of(method, 3) == [answer for _, answer in ROWS]


def test_no_own_texts_is_the_given_answers():
    assert text_of(adaptive(), 60) == [answer for _, answer in ROWS]


def test_texts_are_written_until_the_buffer_is_full_and_then_less_and_less():
    method = adaptive()
    method.own.fill_(1)
    fresh = []
    for step in range(20, 99):
        method.set_stage(step, 100)
        batch = method.text(batch_of(ROWS))
        fresh.append(float(batch["seen_fresh"]))
        assert float(batch["seen_fresh"]) + float(batch["seen_replayed"]) == 1
    assert fresh[:3] == [1, 1, 1]  # 9 texts for a buffer of 8
    assert sum(fresh[3:40]) > sum(fresh[42:])


def test_a_replayed_text_is_one_that_was_written_with_its_prompt():
    method = adaptive()
    method.own.fill_(1)
    seen = set()
    for step, rows in ((20, ROWS), (21, MORE), (22, ROWS)):
        method.set_stage(step, 100)
        batch = method.text(batch_of(rows))
        seen |= set(pairs(batch))
    assert int(method.count) == 9
    again = method.replayed(batch_of([([1], [2])] * 40) | {"key": torch.arange(40)})
    held = {
        (tuple(ids[:p].tolist()), tuple(ids[p : p + a].tolist()))
        for ids, (p, a) in zip(method.kept, method.lengths.tolist(), strict=True)
    }
    assert len(held) > 4
    assert set(pairs(again)) <= held <= seen
    assert len(set(pairs(again))) > 3


def pairs(batch):
    """(prompt, answer) of each row, without padding."""
    return [
        (tuple(p[pm].tolist()), tuple(a[am].tolist()))
        for p, pm, a, am in zip(*(batch[k] for k in ("prompt", "prompt_mask", "answer", "answer_mask")), strict=True)
    ]


def test_the_buffer_is_in_the_checkpoint():
    method, other = adaptive(), adaptive()
    method.own.fill_(1)
    method.text(batch_of(ROWS))
    method.after_check({"loss": 1.0})
    other.load_state_dict(method.state_dict())
    for name, value in method.named_buffers():
        assert value.equal(dict(other.named_buffers())[name]), name
    assert int(other.count) == 3
    assert text_of(other, 70, MORE) == text_of(method, 70, MORE)


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_named_in_the_docstring(name):
    doc = METHODS[name].__doc__
    for setting in method_settings(name):
        assert setting in doc


# ---- OKD's module


def steps(method, count=6):
    optimizer = torch.optim.AdamW(method.parameters(), lr=0.02)
    for _ in range(count):
        optimizer.zero_grad()
        method(**batch_of(ROWS))["loss"].backward()
        optimizer.step()


def module_of(method):
    return torch.cat([p.detach().flatten() for p in method.module])


def test_the_module_learns_and_the_teacher_stays():
    method = made("okd")
    before, teacher = module_of(method), copy.deepcopy(method.teacher.lm.state_dict())
    assert {id(p) for p in method.module} <= {id(p) for p in method.parameters()}
    plain = method.teacher.lm(batch_of(ROWS))
    steps(method)
    assert (module_of(method) - before).abs().max() > 0.01
    for name, value in method.teacher.lm.state_dict().items():
        assert value.equal(teacher[name])
    assert method.teacher.lm(batch_of(ROWS)).equal(plain)
    (adapted,) = method.adapted
    assert not torch.allclose(adapted(batch_of(ROWS)), plain, atol=1e-3)


def test_the_module_begins_as_the_teacher_and_shares_its_weights():
    method = made("okd")
    (adapted,) = method.adapted
    assert adapted(batch_of(ROWS)).equal(method.teacher.lm(batch_of(ROWS)))
    shared = {p.data_ptr() for p in method.teacher.model.parameters()}
    own = [p for p in adapted.model.parameters() if p.data_ptr() not in shared]
    assert {id(p) for p in own} == {id(p) for p in method.module}


def test_each_side_has_the_gradient_of_its_own_terms():
    def gradients(**weights):
        method = made("okd", **weights)
        with torch.no_grad():
            for number, p in enumerate(method.module):
                p.add_(0.05 * (number + 1))  # off its start, where half of it has no gradient
        _, student = learnt(method)
        of_module = [torch.zeros_like(p) if p.grad is None else p.grad for p in method.module]
        return student, torch.cat([each.flatten() for each in of_module])

    student, module = gradients()
    alone, _ = gradients(module_soft=0.0, module_hard=0.0)
    torch.testing.assert_close(alone, student)
    _, still = gradients(hard=0.0)
    torch.testing.assert_close(still, module)
    assert module.abs().sum() > 0


def test_without_a_module_it_is_the_reverse_divergence():
    method, twin = made("okd", rank=0, hard=0.0), made("gkd", beta=1.0)
    (ours, gradient), (theirs, wanted) = learnt(method), learnt(twin)
    assert float(ours["loss"]) == pytest.approx(float(theirs["loss"]), rel=1e-5)
    torch.testing.assert_close(gradient, wanted)
    assert set(method.state_dict()) == set(twin.state_dict())


def test_a_checkpoint_has_the_module_and_not_the_teacher():
    method, other = made("okd"), made("okd")
    steps(method)
    state = method.state_dict()
    assert not [name for name in state if not name.startswith(("student.", "module."))]
    other.load_state_dict(state)
    assert module_of(other).equal(module_of(method))
    assert float(other(**batch_of(ROWS))["loss"].detach()) == float(method(**batch_of(ROWS))["loss"].detach())


def test_okd_names_what_it_lacks(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"pip install 'contrastill\[adapters\]'"):
        made("okd")
    monkeypatch.undo()
    monkeypatch.setattr("contrastill.methods.okd.QUERY_VALUE", ["nothing"])
    with pytest.raises(UserError, match="layers of queries and values"):
        made("okd")
