"""The problems that rows (D1), and a tokenizer with its template (D2), can have."""

from __future__ import annotations

from launcher.diagnostics import Code, Severity

COLUMN_MISSING = Code(
    "D101",
    "column-missing",
    Severity.ERROR,
    "Rows have not the column that the dataset's ``type`` reads.\n\n"
    "axolotl stops with a KeyError out of a worker process, after the data was downloaded; where "
    "the column is optional, another text is trained on.",
)
MIXED_TYPES = Code(
    "D102",
    "mixed-types",
    Severity.ERROR,
    "A column holds values of several kinds, as text in one row and a list in another.\n\n"
    "The datasets library keeps one type a column: it stops with a DatasetGenerationError when it "
    "comes to the first row that differs, which may be far down the file.",
)
LIST_AS_TEXT = Code(
    "D103",
    "list-as-text",
    Severity.ERROR,
    "The dataset's ``type`` writes a column as text, and the rows hold a list there.\n\n"
    "The model is trained on the Python text of the list, ``[{'role': ...``, without a word. "
    "``chat_template.default`` and ``chat_template.argilla_chat`` read messages.",
)
ROLE_UNKNOWN = Code(
    "D104",
    "role-unknown",
    Severity.ERROR,
    "A message has a role that the type does not know.\n\n"
    "In preference training axolotl knows user, assistant, system and tool, and stops with a "
    "KeyError at any other.",
)
ROLE_NEVER_TRAINED = Code(
    "D105",
    "role-never-trained",
    Severity.ERROR,
    "No row has a message of a role that is trained on (``roles_to_train``, else assistant).\n\n"
    "Every token is masked: the loss is 0 or nan, the run ends well, and nothing was learnt. "
    "``train_on_inputs`` has no say there.",
)
EMPTY_ANSWER = Code(
    "D106",
    "empty-answer",
    Severity.ERROR,
    "An answer is empty.\n\n"
    "In preference training the chat template's types look for the answer in the rendered text; an "
    "empty one is found at its start, so the whole prompt of a dummy dialogue becomes the answer.",
)
IDENTICAL_PAIR = Code(
    "D107",
    "identical-pair",
    Severity.WARNING,
    "The chosen and the rejected answer are the same.\n\n"
    "Such a pair has a margin of 0 whatever the model does: it costs its time and teaches nothing.",
)
READY_BUT_LISTS = Code(
    "D108",
    "ready-rows-are-lists",
    Severity.ERROR,
    "An entry without ``type`` has lists where it needs texts that are ready to train on.\n\n"
    'axolotl stops when it measures their lengths: "text input must be of type `str`".',
)
DUPLICATE_ROWS = Code(
    "D109",
    "duplicate-rows",
    Severity.NOTE,
    "Rows are there more than once.\n\n"
    "They are trained on that often, and if one of them is held out, the evaluation has seen it.",
)
ANSWER_LOST = Code(
    "D110",
    "answer-lost",
    Severity.ERROR,
    "An answer is not in what the model is trained on.\n\n"
    "axolotl's ``chat_template`` types for pairs look for the answer in the rendered text. A "
    "template that trims (Llama 3, Gemma) never writes an answer that begins or ends with a blank "
    "or a line break, so it is not found, and the text's last letter is left. With Llama 3 that is "
    '">", and the run goes on without a word; with Gemma it is nothing, and the run stops.',
)
ANSWER_TOO_EARLY = Code(
    "D111",
    "answer-found-in-the-prompt",
    Severity.ERROR,
    "An answer is found in the template's own text, before its place.\n\n"
    "axolotl's ``chat_template`` types for pairs take what follows the first place at which the "
    'answer stands: "A" is found in a system prompt ("Alibaba Cloud"), "user" in a header. '
    "The model is trained on a dummy dialogue then.",
)
NOTHING_TRAINED = Code(
    "D112",
    "rows-without-training",
    Severity.WARNING,
    "Rows have no token that the loss counts.\n\n"
    "They cost their time and teach nothing. Where all are so, the loss is 0 or nan, or axolotl "
    "stops.",
)
LONG_ROWS = Code(
    "D113",
    "long-rows",
    Severity.WARNING,
    "Rows are longer than ``sequence_len``, and are dropped or cut.\n\n"
    "axolotl drops them by default, with one line among thousands; with ``excess_length_strategy: "
    "truncate`` they lose their end, and with it the token that ends an answer.",
)
LONG_ROWS_STOP = Code(
    "D114",
    "long-rows-stop-the-run",
    Severity.ERROR,
    "Rows are longer than ``sequence_len``, and so the run ends.\n\n"
    "With ``excess_length_strategy: raise`` the first long row ends it; where all are dropped, "
    "nothing is left to train on.",
)
ROW_FAILS = Code(
    "D115",
    "row-fails",
    Severity.ERROR,
    "axolotl raises an exception when it renders a row.\n\n"
    "One such row ends the run, after the data was downloaded and often late in its preparation.",
)
EVAL_TOO_SMALL = Code(
    "D116",
    "eval-split-too-small-to-pack",
    Severity.ERROR,
    "The rows that are held out do not fill one packed batch.\n\n"
    'axolotl stops after the preparation: "eval dataset split is too small for sample_packing".',
)
SLOW_TOKENIZING = Code(
    "D117",
    "tokenizing-past-the-timeout",
    Severity.WARNING,
    "Tokenizing the pairs takes longer than the other GPUs wait.\n\n"
    "In preference training TRL tokenizes on the first rank while all others wait in a collective; "
    "after ``ddp_timeout`` (7,200 s as axr starts it) NCCL ends the run. The forecast is that of "
    "this machine.",
)
ROWS_NOT_HAD = Code(
    "D118",
    "rows-not-had",
    Severity.ERROR,
    "The rows of a dataset entry cannot be read.\n\n"
    'If the training machine cannot, either, the run ends when it loads the data: "The dataset '
    'could not be loaded". A path is relative to the working directory; a private or a gated '
    "dataset needs ``HF_TOKEN``.",
)
END_NOT_TRAINED = Code(
    "D201",
    "turn-end-not-trained",
    Severity.WARNING,
    "The token that ends an answer is masked: the model never learns to stop.\n\n"
    "axolotl trains the tokenizer's ``eos_token`` as the end of a turn; this template ends turns "
    "with another token. Name it under ``eot_tokens``.",
)
TOKENS_SPLIT = Code(
    "D202",
    "template-of-another-family",
    Severity.WARNING,
    "What the template writes as special tokens is ordinary text to this tokenizer.\n\n"
    "``<|eot_id|>`` becomes five tokens or more that the model has never seen in that place: it "
    "ignores turns, and the rows are longer. The template, or the type, is of another family.",
)
EMBEDDINGS_GROW = Code(
    "D203",
    "embeddings-grow",
    Severity.WARNING,
    "The tokenizer has more tokens than the model's embeddings have rows.\n\n"
    "axolotl adds rows with random content; an adapter that was trained so cannot be merged into "
    'the base model, and vLLM refuses it: "size mismatch". Most models have reserved tokens.',
)
NEW_TOKEN_UNSAVED = Code(
    "D204",
    "new-token-not-saved",
    Severity.ERROR,
    "A special token is new to the vocabulary, and the adapter does not train embeddings.\n\n"
    'axolotl stops when it loads the tokenizer: "Please set lora_modules_to_save".',
)
TEMPLATE_NULL = Code(
    "D205",
    "tokenizer-without-template",
    Severity.ERROR,
    "The tokenizer has no chat template, and the recipe names none.\n\n"
    'Base models often have none. axolotl stops at the first row: "chat_template is null".',
)
BOS_TWICE = Code(
    "D206",
    "bos-twice",
    Severity.WARNING,
    "Rows begin with two tokens for the beginning of a text.\n\n"
    "The template writes one, and the tokenizer adds another. axolotl 0.19 has code against it, "
    "which TRL 1.9 no longer calls. The model sees a start that it will not see when it is used.",
)
