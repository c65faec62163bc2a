"""The Hub, and the folders that a run writes to."""

from __future__ import annotations

import pytest
from least import codes


@pytest.mark.parametrize(
    ("fragment", "expected"),
    [
        ("hub_strategy: end\nhub_model_id: my org/model", ["R901"]),
        ("hub_strategy: end\nhub_model_id: a/b/c", ["R901"]),
        ("hub_strategy: end\nhub_model_id: a/b--c", ["R901"]),
        (
            "hub_strategy: end\n"
            "hub_model_id: "
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
            "aaaaaaaaaaaaaaaaaaa",
            ["R901"],
        ),
        ("hub_strategy: end\nhub_model_id: me/model-1.5_b", []),
        ("hub_strategy: end\nhub_model_id: model", []),
        ("hub_model_id: me/model", ["R902"]),
        ("hub_model_id: me/model\nhub_strategy: every_save", []),
        ("push_dataset_to_hub: me/rows", ["R903"]),
        ("push_dataset_to_hub: me/rows\nhf_use_auth_token: true", []),
        ("output_dir: ${OUT}/run", ["R904"]),
        ("output_dir: $OUT/run", ["R904"]),
        ("output_dir: ~/run", ["R904"]),
        ("output_dir: ./a~b", []),
        ("wandb_name: costs 5$", []),
        ('chat_template: jinja\nchat_template_jinja: "{{ ${A} }}"', []),
        ('datasets: [{path: "${DATA}/rows.jsonl", type: alpaca}]', ["R904"]),
        ("strict: true", ["R905"]),
        ("strict: false", []),
    ],
)
def test_told(fragment: str, expected: list[str]) -> None:
    assert codes(fragment) == expected
