"""The stages of a rehearsal, and what can go wrong in each."""

from __future__ import annotations

from launcher.diagnostics import Code, Severity

# in the order of a run
STAGES = (
    "prepare",
    "config",
    "tokenise",
    "load",
    "train",
    "evaluate",
    "save",
    "resume",
    "merge",
    "reload",
    "generate",
)

CANNOT = Code(
    "L201",
    "cannot-rehearse",
    Severity.ERROR,
    "No small stand-in for this model, these rows or this method can run on a CPU.",
)
CUT_OFF = Code(
    "L202",
    "rehearsal-cut-off",
    Severity.ERROR,
    "The process of the rehearsal was killed: for want of memory, as a rule.\n\n"
    "Nothing is said of the recipe by that. The longest rows, a large vocabulary or many processes"
    " on this machine may be the reason.",
)
CONFIG = Code(
    "L210",
    "rehearsal-config",
    Severity.ERROR,
    "axolotl refuses the config as it is loaded.",
)
TOKENISE = Code(
    "L211",
    "rehearsal-tokenise",
    Severity.ERROR,
    "The rows could not be turned into tokens: a column that is missing, or another layout.\n\n"
    "On a GPU the run would end here, too, after the data has been downloaded.",
)
LOAD = Code(
    "L212",
    "rehearsal-load",
    Severity.ERROR,
    "The model, the adapter or the trainer could not be made: a LoRA target that the model does"
    " not have, an optimizer of an unknown name.\n\n"
    "On a GPU the run would end here, too, after the model has been downloaded and loaded.",
)
TRAIN = Code(
    "L213",
    "rehearsal-train",
    Severity.ERROR,
    "A training step broke.",
)
EVALUATE = Code(
    "L214",
    "rehearsal-evaluate",
    Severity.ERROR,
    "The training runs, and the evaluation in the midst of it breaks.",
)
SAVE = Code(
    "L215",
    "rehearsal-save",
    Severity.ERROR,
    "The training runs, and a checkpoint or the result cannot be saved: all of it would be lost.",
)
RESUME = Code(
    "L216",
    "rehearsal-resume",
    Severity.ERROR,
    "A run that is cut off could not go on from its checkpoint.",
)
MERGE = Code(
    "L217",
    "rehearsal-merge",
    Severity.ERROR,
    "The adapter cannot be merged into the model.",
)
RELOAD = Code(
    "L218",
    "rehearsal-reload",
    Severity.ERROR,
    "What was saved cannot be loaded again: nobody could use the result.",
)
GENERATE = Code(
    "L219",
    "rehearsal-generate",
    Severity.ERROR,
    "The result loads, and does not generate.",
)
NOT_FINITE = Code(
    "L220",
    "loss-not-finite",
    Severity.ERROR,
    "The loss or the gradient is no number any more, within the first steps of a small model.",
)
NO_GRADIENT = Code(
    "L221",
    "no-gradient",
    Severity.ERROR,
    "No weight is moved: nothing is trainable, or every label is masked.\n\n"
    "axolotl trains on to the end, with a gradient norm of 0 and exit code 0.",
)
ODD_START = Code(
    "L222",
    "preference-start",
    Severity.WARNING,
    "The first loss of a preference run is not what two equal models give.\n\n"
    "Before the first step the model is its own reference. For the sigmoid loss that is ln 2 ="
    " 0.693; anything else says that the two differ, for instance by dropout or by another model.",
)
RESUME_DIFFERS = Code(
    "L223",
    "resume-differs",
    Severity.WARNING,
    "The first step after the checkpoint has another loss than the same step without a break.\n\n"
    "The weights, the rows or the random state are not those of the run that was cut off.",
)
RESUME_ROWS = Code(
    "L228",
    "resume-other-rows",
    Severity.NOTE,
    "After a break the run goes on with other rows than it would have without one.\n\n"
    "Seen with ``sample_packing``: axolotl 0.19 packs the epoch anew, in another order, so that"
    " some rows come twice and some not at all. A run that is not cut off is not concerned.",
)
MERGE_DIFFERS = Code(
    "L224",
    "merge-differs",
    Severity.ERROR,
    "The merged model does not answer as the model with its adapter does.",
)
MERGE_ROUNDS = Code(
    "L226",
    "merge-rounds",
    Severity.WARNING,
    "Merging changes weights that the training left alone: it rounds them to 4 bits.\n\n"
    "axolotl 0.19 takes every matrix of a QLoRA's base through 4 bits when it merges, the embedding"
    " and the head among them, which are in full precision while it trains. What was trained is the"
    " adapter beside the model; the merged one answers a little differently.",
)
NO_EVALUATION = Code(
    "L227",
    "evaluation-of-nothing",
    Severity.WARNING,
    "The evaluation ran, and there is no loss of it.\n\n"
    "With ``sample_packing`` axolotl leaves out a batch that is not full: few rows to evaluate on"
    " make none, and nothing is said.",
)
DEEPSPEED = Code(
    "L225",
    "deepspeed-config",
    Severity.ERROR,
    "DeepSpeed's own code does not accept its JSON.\n\n"
    "On the GPUs that is told after the model has been downloaded.",
)

FAILED = {
    "prepare": CANNOT,
    "config": CONFIG,
    "tokenise": TOKENISE,
    "load": LOAD,
    "train": TRAIN,
    "evaluate": EVALUATE,
    "save": SAVE,
    "resume": RESUME,
    "merge": MERGE,
    "reload": RELOAD,
    "generate": GENERATE,
}
