"""How real runs fail: every known failure that shows in a recipe, or in the files beside it, is
caught here, or by another stage that is named.
"""

from __future__ import annotations

import pytest
from least import HERE, codes

LORA = "lora_target_linear: true\n"
ROWS = "val_set_size: 0.05\n"
# failure, what the least recipe gets to have it, and the code that tells it
CAUGHT = [
    ("unknown-key", "num_epoch: 3", "S102"),
    ("evals-product-one", f"{ROWS}evals_per_epoch: 1\nnum_epochs: 1", "R301"),
    ("val-no-schedule", ROWS, "R302"),
    ("packing-no-attn", "sample_packing: true", "R701"),
    (
        "dpo-keys-dropped",
        "rl: dpo\ndatasets: [{path: my-org/p, type: chat_template.default, name: a}]",
        "S102",
    ),
    ("max-steps-left", "max_steps: 10\nnum_epochs: 3", "R308"),
    ("lora-4bit", f"adapter: lora\nload_in_4bit: true\n{LORA}", "R501"),
    ("dup-key", "seed: 1\nseed: 2", "Y102"),
    ("lr-range", "learning_rate: 2e6", "R601"),
    ("lr-range", "rl: dpo\nrl_beta: 0", "R603"),
    ("lr-range", "rl: dpo\nlearning_rate: 2e-4", "R602"),
    ("plugin-keys-no-plugin", "liger_rope: true", "R005"),
    ("yaml11", "seed: 010", "Y201"),
    ("yaml11", "num_epochs: 1:30", "Y202"),
    ("yaml11", "wandb_mode: off", "S103"),
    ("env-literal", "output_dir: ${OUT}", "R904"),
    (
        "split-key",
        "datasets: [{path: my-org/rows, type: alpaca, train_on_split: test}]",
        "S102",
    ),
    (
        "resume-mismatch",
        f"resume_from_checkpoint: old/checkpoint-20\nadapter: lora\nlora_r: 16\n{LORA}",
        "R152",
    ),
    (
        "resume-done",
        f"resume_from_checkpoint: old/checkpoint-20\nadapter: lora\n{LORA}max_steps: 20",
        "R153",
    ),
    (
        "zero3-qlora",
        f"adapter: qlora\nload_in_4bit: true\n{LORA}deepspeed: recipes/deepspeed/zero3.json",
        "R802",
    ),
    (
        "ddp-gc-dpo",
        f"rl: dpo\nadapter: lora\n{LORA}gradient_checkpointing: true\n"
        "gradient_checkpointing_kwargs: {use_reentrant: true}",
        "R805",
    ),
    ("optimizer-typo", "optimizer: adamw_8bits", "R001"),
    ("scheduler-typo", "lr_scheduler: cosin", "R002"),
    ("lora-no-targets", "adapter: lora", "R503"),
    ("sci-notation", "lr_scheduler_kwargs: {min_lr: 1e-6}", "Y203"),
    (
        "fsdp-keys",
        "fsdp_version: 2\nfsdp_config: {sharding_strategy: FULL_SHARD}",
        "S102",
    ),
    ("eot-nested", "special_tokens: {eot_tokens: [x]}", "S102"),
    ("save-limit-4", "saves_per_epoch: 4\nnum_epochs: 3", "R307"),
    ("secret-leak", "comet_api_key: 0123456789abcdef", "R101"),
    ("fsdp-sharded-final", "fsdp_config: {state_dict_type: SHARDED_STATE_DICT}", "R807"),
    ("ds-missing", "deepspeed: deepspeed_configs/none.json", "R803"),
    ("ds-path", "datasets: [{path: ./none.jsonl, type: alpaca}]", "R402"),
    ("ds-path", "datasets: [{path: none.jsonl, type: alpaca}]", "R406"),
    ("plugin-module-typo", "plugins: [axolotl.integrations.ligre.LigerPlugin]", "R004"),
    ("cli-strict", "strict: true", "R905"),
    (
        "ds-and-fsdp",
        "deepspeed: {zero_optimization: {stage: 2}}\nfsdp_config: {reshard_after_forward: true}",
        "R801",
    ),
    ("lora-new-token", f"adapter: lora\ntokens: [<x>]\n{LORA}", "R507"),
    ("hub-id", "hub_model_id: my org/model\nhub_strategy: end", "R901"),
    ("hub-push-each", "hub_model_id: me/model", "R902"),
    ("ds-dpo", "rl: dpo\ndeepspeed: {zero_optimization: {stage: 3}}", "R806"),
    ("type-typo-dpo", "rl: dpo\ndatasets: [{path: my-org/p, type: chatlm.intel}]", "R403"),
    ("type-typo-sft", "datasets: [{path: my-org/rows, type: alpacca}]", "R403"),
    ("val-int-rl", "rl: dpo\nval_set_size: 200\neval_steps: 10", "R306"),
    (
        "test-ds-dpo",
        "rl: dpo\neval_steps: 10\n"
        "test_datasets: [{path: my-org/p, type: chat_template.default, field_chosen: a}]",
        "R407",
    ),
    ("rl-lora-kernels", f"rl: dpo\nadapter: lora\nlora_mlp_kernel: true\n{LORA}", "R504"),
    ("dpo-no-type", "rl: dpo\ndatasets: [{path: my-org/p}]", "R404"),
    ("mbs-zero", "micro_batch_size: 0", "R604"),
    ("sharegpt", "datasets: [{path: my-org/rows, type: sharegpt}]", "R403"),
    ("removed-keys", "max_packed_sequence_len: 2048", "R007"),
    ("dpo-packing", "rl: dpo\nsample_packing: true\nattn_implementation: sdpa", "R702"),
    ("save-eval-conflicts", "save_steps: 5\nsaves_per_epoch: 2", "R304"),
    ("save-eval-conflicts", "val_set_size: 0\neval_steps: 5", "R303"),
    ("qlora-bits", f"adapter: qlora\n{LORA}", "R502"),
    ("qlora-bits", "load_in_4bit: true", "R502"),
    (
        "fa3-a100",
        "attn_implementation: flash_attention_3\n"
        "x-recipe: {title: A, method: sft, needs: {gpu: a100-80gb, gpus: 1, disk: 1}}",
        "R704",
    ),
    (
        "fp8-a100",
        "fp8: true\nx-recipe: {title: A, method: sft, needs: {gpu: a100-80gb, gpus: 1, disk: 1}}",
        "R704",
    ),
    (
        "pre-ampere",
        "bf16: true\nx-recipe: {title: A, method: sft, needs: {gpu: t4-16gb, gpus: 1, disk: 1}}",
        "R704",
    ),
    ("path-null", "datasets: [{type: alpaca}]", "R401"),
    ("early-stop", f"{ROWS}evals_per_epoch: 2\nearly_stopping_patience: 2", "R305"),
    (
        "early-stop",
        f"rl: dpo\n{ROWS}eval_steps: 5\nsave_steps: 5\nearly_stopping_patience: 2",
        "R006",
    ),
    ("legacy-attn", "flash_attention: true\nattn_implementation: sdpa", "R009"),
    (
        "fsdp2-quant",
        "optimizer: adamw_8bit\nfsdp_version: 2\nfsdp_config: {reshard_after_forward: true}",
        "R808",
    ),
    (
        "fsdp2-quant",
        f"rl: dpo\nadapter: qlora\nload_in_4bit: true\n{LORA}fsdp_version: 2\n"
        "fsdp_config: {reshard_after_forward: true}",
        "R809",
    ),
    (
        "fsdp-off-8bit",
        "optimizer: paged_adamw_8bit\nfsdp_config: {offload_params: true}",
        "R808",
    ),
    ("safetensors", "save_safetensors: false", "R007"),
    ("int-fraction", "logging_steps: 0.1", "S103"),
    (
        "dpo-data-files",
        "rl: dpo\ndatasets: [{path: my-org/p, type: chat_template.default, data_files: a.json}]",
        "S103",
    ),
    (
        "pretrain-val",
        "pretraining_dataset: [{path: my-org/web, type: pretrain}]\nmax_steps: 5\n"
        f"{ROWS}eval_steps: 5",
        "R605",
    ),
    ("push-ds-auth", "push_dataset_to_hub: me/rows", "R903"),
]
# failure -> who tells it, and why it cannot be told from the recipe
ELSEWHERE = {
    "stale-prepared": "launch gives each run a dataset_prepared_path of its own",
    "hash-blind": "launch gives each run a dataset_prepared_path of its own",
    "outdir-reused": "launch gives each run an output_dir of its own",
    "ckpt-disk-full": "plan and preflight: bytes of the checkpoints against those that are free",
    "oom-dpo-full": "plan: memory by term, from the model's config.json",
    "oom-eval": "plan: memory by term, from the model's config.json",
    "seqlen-model": "plan: max_position_embeddings, from the model's config.json",
    "resume-deepspeed": "rehearsal: depends on what DeepSpeed wrote into the checkpoint",
    "kernels-cpu": "launch: launcher/cpu.py turns the kernels off where there is no GPU",
    "user-defined-dpo": "fixed in the pinned axolotl",
    "tabs": "reading, which shows nothing else: tests/cases/err/Y101-tab-indent.yaml",
}


FAILURES = 71  # how many the catalogue has that show in a recipe, or in files beside it


@pytest.mark.parametrize(("failure", "fragment", "code"), CAUGHT)
def test_caught(failure: str, fragment: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(HERE)
    assert code in codes(fragment), failure


def test_no_failure_is_forgotten() -> None:
    caught = {failure for failure, _, _ in CAUGHT}
    assert caught.isdisjoint(ELSEWHERE)
    assert len(caught | ELSEWHERE.keys()) == FAILURES
