"""Tokenise the conversations of a task, token for token as TRL does it."""

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from caplab.measuring.trees import shared_prefix
from caplab.models.chat import has_template, render, time_limit
from caplab.support.errors import BadInput, explaining_failure

__all__ = ["ChatRows", "TokenRow", "learned", "marked_template"]

TokenRow: TypeAlias = dict[str, list[int]]


def learned(asked: list[int], ids: list[int]) -> TokenRow:
    """Label what follows the prompt; a token that spans its end belongs to the completion."""
    start = shared_prefix(asked, ids)
    return {"input_ids": ids, "labels": [-100] * start + ids[start:]}


class ChatRows:
    """Tokenise conversations with the model's own chat template, as TRL does."""

    def __init__(self, tokenizer: Any, name: str, assistant_only: bool) -> None:
        if not has_template(tokenizer):
            raise BadInput(
                "These rows are chat messages, and the tokenizer has no chat template to write "
                "them with. Give `prompt` and `completion` as texts, or use a model that was made "
                "for chat."
            )
        self.tokenizer, self.name, self.masked = tokenizer, name, assistant_only
        self.template = marked_template(tokenizer) if assistant_only else None

    def row(self, row: Mapping[str, Any]) -> TokenRow:
        """Tokenise one row; where there is a prompt, only the completion is learned."""
        tools = row.get("tools")
        tools = json.loads(tools) if isinstance(tools, str) else tools
        if "prompt" not in row or "completion" not in row:
            made = self._write(row["messages"], tools)
            return {"input_ids": made["input_ids"], "labels": self._labels(made)}
        asked = self._write(row["prompt"], tools, asking=True)["input_ids"]
        made = self._write(row["prompt"] + row["completion"], tools)
        completion = learned(asked, made["input_ids"])["labels"]
        both = zip(completion, self._labels(made), strict=True)
        return {
            "input_ids": made["input_ids"],
            "labels": [-100 if -100 in pair else pair[0] for pair in both],
        }

    def _write(self, messages: list[Any], tools: Any, *, asking: bool = False) -> dict[str, Any]:
        """Write a conversation as tokens."""
        render(self.tokenizer, messages, self.name, tools=tools)  # refuses what it leaves out
        with (
            time_limit(self.name),
            explaining_failure(
                f"The chat template of {self.name} refuses the conversation {messages!r:.80}"
            ),
        ):
            return dict(
                self.tokenizer.apply_chat_template(
                    messages,
                    tools=tools or None,
                    tokenize=True,
                    return_dict=True,
                    add_generation_prompt=asking,
                    chat_template=self.template,
                    return_assistant_tokens_mask=self.masked and not asking,
                )
            )

    def _labels(self, made: Mapping[str, Any]) -> list[int]:
        """Label all tokens, or those of the assistant's turns."""
        if not self.masked:
            return list(made["input_ids"])
        if not any(made["assistant_masks"]):
            raise BadInput(
                "assistant_only leaves nothing to learn: a conversation has no assistant's turn."
            )
        pairs = zip(made["input_ids"], made["assistant_masks"], strict=True)
        return [token if said else -100 for token, said in pairs]


# ---------------------------------------------------------------- marks in a chat template

_MARKED = """\
{%- macro caplab_written(messages, add_generation_prompt) +%}@BODY@{%+ endmacro -%}
{%- set caplab_whole = caplab_written(messages, add_generation_prompt) -%}
{%- set caplab = namespace(done=0) -%}
{%- for caplab_message in messages -%}
    {%- if caplab_message['role'] == 'assistant' -%}
        {%- set caplab_start = caplab_written(messages[:loop.index0], true) -%}
        {%- set caplab_end = caplab_written(messages[:loop.index], false) -%}
        {%- if not (caplab_end.startswith(caplab_start) and caplab_whole.startswith(caplab_end)) -%}
            {{- raise_exception('@PROBLEM@') -}}
        {%- endif -%}
        {{- caplab_whole[caplab.done:caplab_start | length] -}}
        {%- generation -%}
            {{- caplab_end[caplab_start | length:] -}}
        {%- endgeneration -%}
        {%- set caplab.done = caplab_end | length -%}
    {%- endif -%}
{%- endfor -%}
{{- caplab_whole[caplab.done:] -}}
"""
_PROBLEM = (
    "assistant_only cannot mark what the assistant says, because the template writes a turn "
    "differently once others follow"
)


def marked_template(tokenizer: Any) -> str:
    """Return the tokenizer's chat template with marks around what the assistant says.

    TRL learns the assistant's turns alone where a template has `{% generation %}` marks, and brings
    marked copies of some templates. Any other is wrapped: what it writes for an assistant's turn is
    what it writes with the turn, beyond what it writes to ask for it.
    """
    from trl.chat_template_utils import get_training_chat_template, has_generation_markers

    template = tokenizer.get_chat_template()
    if has_generation_markers(template):
        return str(template)
    try:
        return str(get_training_chat_template(tokenizer) or template)
    except Exception:  # of many kinds: it also renders conversations that a template may refuse
        return _MARKED.replace("@PROBLEM@", _PROBLEM).replace("@BODY@", template.removesuffix("\n"))
