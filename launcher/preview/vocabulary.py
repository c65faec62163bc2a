"""What the tokenizer and the chat template say: tokens that are new, split, doubled, not learnt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain

from launcher.diagnostics import Diagnostic
from launcher.preview.codes import (
    BOS_TWICE,
    EMBEDDINGS_GROW,
    END_NOT_TRAINED,
    NEW_TOKEN_UNSAVED,
    TEMPLATE_NULL,
    TOKENS_SPLIT,
)
from launcher.preview.rendering import Entry, Vocabulary
from launcher.recipe import Recipe
from launcher.schema.wording import cut

NEW_TOKENS = "lora_modules_to_save"  # loaders/tokenizer.py
NO_TEMPLATE = "chat_template is null"  # utils/chat_templates/base.py


def check(recipe: Recipe, known: Vocabulary, entries: Sequence[Entry]) -> Iterator[Diagnostic]:
    """Yield what is wrong with the tokenizer and the template. A stand-in says nothing of it."""
    if known.real:
        yield from chain(
            _null(recipe, entries),
            _unsaved(recipe, known),
            _grown(recipe, known),
            _split(recipe, known),
            _ends(recipe, known, entries),
            _twice(recipe, entries),
        )


def template_is_null(entry: Entry) -> bool:
    """Return whether an entry has no rows for want of a chat template."""
    return NO_TEMPLATE in entry.error or any(NO_TEMPLATE in row.error for row in entry.rows)


def _null(recipe: Recipe, entries: Sequence[Entry]) -> Iterator[Diagnostic]:
    if any(map(template_is_null, entries)):
        base = recipe.value.get("tokenizer_config") or recipe.value.get("base_model")
        fact = f"the tokenizer of {cut(str(base))} has no chat template"
        key = "chat_template" if "chat_template" in recipe.value else "base_model"
        hint = "name the template of the model's family, for instance chat_template: chatml"
        yield TEMPLATE_NULL.at(recipe.value_span(key), fact, hint)


def _unsaved(recipe: Recipe, known: Vocabulary) -> Iterator[Diagnostic]:
    if NEW_TOKENS in known.refused:
        fact = "special_tokens names a token that the vocabulary has not, and adapter: "
        fact += f"{recipe.value.get('adapter')} does not train its embeddings"
        hint = "take a token that the model has\nor lora_modules_to_save: [embed_tokens, lm_head]"
        yield NEW_TOKEN_UNSAVED.at(recipe.key_span("special_tokens"), fact, hint)


def _grown(recipe: Recipe, known: Vocabulary) -> Iterator[Diagnostic]:
    if known.grown:
        names = ", ".join(cut(token, 30) for token in known.grown[:5])
        fact = (
            f"the tokenizer has {known.size:,} tokens, the model {known.embeddings:,} embeddings: "
        )
        fact += f"{names} {'are' if len(known.grown) > 1 else 'is'} new"
        key = next((key for key in ("tokens", "special_tokens") if recipe.value.get(key)), "")
        hint = (
            "take tokens that the vocabulary has, or rename reserved ones: added_tokens_overrides"
        )
        yield EMBEDDINGS_GROW.at(recipe.key_span(key or "base_model"), fact, hint)


def _split(recipe: Recipe, known: Vocabulary) -> Iterator[Diagnostic]:
    if known.split:
        names = ", ".join(known.split[:5])
        fact = f"{names} {'are' if len(known.split) > 1 else 'is'} written around the rows, and "
        fact += "split into several tokens by this tokenizer"
        hint = "chat_template: tokenizer_default, or a type without these tokens"
        key = ("chat_template",) if "chat_template" in recipe.value else ("datasets", "0", "type")
        yield TOKENS_SPLIT.at(recipe.value_span(*key), fact, hint)


def _ends(recipe: Recipe, known: Vocabulary, entries: Sequence[Entry]) -> Iterator[Diagnostic]:
    rows = [row for entry in entries for row in entry.rows if row.end and row.kept and not row.cut]
    masked = Counter(row.end for row in rows if not row.end_trained)
    if not masked or masked.total() * 2 < len(rows):
        return
    token = masked.most_common(1)[0][0]
    fact = f"answers end with {token}, which is masked: the end that is trained is "
    fact += known.eos or "none"
    key = "chat_template" if "chat_template" in recipe.value else "datasets"
    hint = f'eot_tokens: ["{token}"]'
    yield END_NOT_TRAINED.at(recipe.key_span(key), fact, hint)


def _twice(recipe: Recipe, entries: Sequence[Entry]) -> Iterator[Diagnostic]:
    rows = [row for entry in entries for row in entry.rows if not row.error]
    twice = [row for row in rows if row.bos > 1]
    if twice:
        fact = f"{len(twice):,} of {len(rows):,} rows begin with {twice[0].bos} bos tokens"
        hint = "take the bos token out of the template: chat_template: jinja, chat_template_jinja: "
        key = "chat_template" if "chat_template" in recipe.value else "datasets"
        yield BOS_TWICE.at(recipe.key_span(key), fact, hint + "a copy of it without bos_token")
