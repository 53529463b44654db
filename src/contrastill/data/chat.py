"""Conversations as a tokenizer's chat template writes them: the prompt's text, and the ids of the answer."""

from typing import Any

from transformers import PreTrainedTokenizerBase as Tokenizer

from contrastill.data.prompt_rows import ASSISTANT, Prompt
from contrastill.errors import UserError, first_line, quoted

__all__ = ["Template"]


class Template:
    """A tokenizer's chat template. ends: ids that end an answer, the tokenizer's own first.

    Raises:
        UserError: the tokenizer has none.
    """

    def __init__(self, tokenizer: Tokenizer, ends: tuple[int, ...]) -> None:
        if tokenizer.chat_template is None:
            raise UserError(
                "expected a tokenizer with a chat template, got one without; take that of an instruction-tuned model, "
                "set tokenizer.chat_template, or pass prompts and answers without --chat"
            )
        self.tokenizer, self.ends = tokenizer, ends
        added = (n for n, token in tokenizer.added_tokens_decoder.items() if token.special)
        self.special = {*tokenizer.all_special_ids, *added, *ends}

    def texts(self, row: str, prompt: Prompt, answer: str) -> tuple[str, str]:
        """The text a model is given to answer, and that of the whole conversation. row: its name, for errors.

        Raises:
            UserError: the template refuses the messages, or sets something before an answer that no prompt ends with.
        """
        asked: list[dict[str, str]] = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
        before = self.written(row, asked, add_generation_prompt=True)
        whole = self.written(row, [*asked, {"role": ASSISTANT, "content": answer}], add_generation_prompt=False)
        rest = whole.removeprefix(before).lstrip()
        begun = not whole.startswith(before) or rest.startswith(answer.strip())
        if not begun and before == self.written(row, asked, add_generation_prompt=False):
            raise UserError(
                f"row {row}: expected a chat template that heeds add_generation_prompt, got one that sets "
                f"{quoted(rest, 40)} before an answer and not behind its prompt; add it to the template"
            )
        return before, whole

    def written(self, row: str, messages: list[dict[str, str]], **options: Any) -> str:
        try:
            return str(self.tokenizer.apply_chat_template(messages, tokenize=False, **options))
        except Exception as error:  # a template is a program, and may raise anything
            raise UserError(
                f"row {row}: expected messages that the chat template takes, got roles "
                f"{', '.join(each['role'] for each in messages)} ({first_line(error)}); correct the row or the template"
            ) from error

    def answer(self, row: str, prompt: list[int], whole: list[int]) -> list[int]:
        """The ids of the answer: what the whole conversation has beyond its prompt, up to the end of the turn.

        White space that the template sets behind the end of the turn is left out: no model writes it. Where the
        template ends a turn by no special token, the tokenizer's end token does.

        Raises:
            UserError: the whole does not begin with the prompt.
        """
        if whole[: len(prompt)] != prompt:
            at = next((n for n, pair in enumerate(zip(prompt, whole, strict=False)) if len({*pair}) > 1), len(whole))
            ours, theirs = (self.tokenizer.decode(ids[at : at + 8]) for ids in (prompt, whole))
            raise UserError(
                f"row {row}: expected a chat template that continues its own prompt, got {quoted(theirs)} in the whole "
                f"conversation where the prompt has {quoted(ours)} (token {at}); correct the template, or pass prompts "
                "and answers without --chat"
            )
        rest = whole[len(prompt) :]
        end = len(rest)
        while end and rest[end - 1] not in self.special and not str(self.tokenizer.decode(rest[end - 1])).strip():
            end -= 1
        return rest[:end] if end and rest[end - 1] in self.special else [*rest, self.ends[0]]
