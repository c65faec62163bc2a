"""Fixes: what is mended is what was meant, and everything else stays as it was, byte for byte."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import Axr

from launcher import recipe as recipes
from launcher import source
from launcher.mend import mend
from launcher.validate import validate

CASES = sorted((Path(__file__).parent / "cases" / "err").glob("*.yaml"))
HEAD = "base_model: a/b\nlearning_rate: 1.0e-5\nmicro_batch_size: 1\n"
DATA = "datasets:\n  - path: tatsu-lab/alpaca\n    type: alpaca\n"

# name: before, after safe fixes (None: as before), after all fixes
LAYOUTS = {
    "a comment behind a renamed key": (
        "lora_targt_linear:   true   # all\n",
        "lora_target_linear:   true   # all\n",
        None,
    ),
    "key and value of a deprecated key": (
        "flash_attention: yes # fast\nsample_packing: true\n",
        "attn_implementation: flash_attention_2 # fast\nsample_packing: true\n",
        None,
    ),
    "a quoted key": ('"lora_targt_linear": true\n', "lora_target_linear: true\n", None),
    "line breaks of Windows": ("sede: 1\r\nseed: 1\r\n", None, "seed: 1\r\n"),
    "the second of two equal keys": (
        "seed: 1\n# a\nseed: 1\nval: 0\n",
        "seed: 1\n# a\nval: 0\n",
        "seed: 1\n# a\n",
    ),
    "the first of two unequal keys": ("seed: 1\nseed: 2\n", None, "seed: 2\n"),
    "a block, its comment, and what stands behind it": (
        "qqq:\n  a: |\n    x\n\n    y\n  # of a\n  b: [1,\n    2]\n\n# of seed\nseed: 1\n",
        None,
        "\n# of seed\nseed: 1\n",
    ),
    "the first entry of a list item": (
        "test_datasets:\n  - qqq: 1\n    path: a/b\n    split: test\n    type: alpaca\n"
        "eval_steps: 1\n",
        None,
        "test_datasets:\n  - path: a/b\n    split: test\n    type: alpaca\neval_steps: 1\n",
    ),
    "an entry between others, indented": (
        "test_datasets:\n  - path: a/b\n    qqq: 1 # gone\n    split: test\n    type: alpaca\n"
        "eval_steps: 1\n",
        None,
        "test_datasets:\n  - path: a/b\n    split: test\n    type: alpaca\neval_steps: 1\n",
    ),
    "in braces": ("lr_scheduler_kwargs: {}\nwandb_project: {a: 1}\n", None, None),
    "the middle of braces": (
        "test_datasets: [{path: a/b, qqq: 1, type: alpaca, split: test}]\neval_steps: 1\n",
        None,
        "test_datasets: [{path: a/b, type: alpaca, split: test}]\neval_steps: 1\n",
    ),
    "the last in braces": (
        "test_datasets: [{path: a/b, type: alpaca, split: test, qqq: 1}]\neval_steps: 1\n",
        None,
        "test_datasets: [{path: a/b, type: alpaca, split: test}]\neval_steps: 1\n",
    ),
    "an anchor that is still needed stays": (
        "qqq: &x 1\nseed: *x\n",
        None,
        None,
    ),
    "no line break at the end": ("seed: 1\nqqq: 1", None, "seed: 1\n"),
    "a bare no where text is expected": ("save_strategy: no\n", 'save_strategy: "no"\n', None),
    "a whole number in another form": ("save_total_limit: 1e2\n", "save_total_limit: 100\n", None),
}


def mended(text: str, *, unsafe: bool = False) -> str:
    return mend(text, "my.yaml", unsafe=unsafe).text


@pytest.mark.parametrize("name", LAYOUTS)
def test_only_what_is_wrong_changes(name: str) -> None:
    before, safe, every = LAYOUTS[name]
    safe = before if safe is None else safe
    every = safe if every is None else every
    assert mended(HEAD + DATA + before) == HEAD + DATA + safe
    assert mended(HEAD + DATA + before, unsafe=True) == HEAD + DATA + every


def slips(path: Path) -> Iterator[str]:
    """Yield the recipe with one letter left out of a key, for each of its longer top-level keys."""
    text = path.read_text(encoding="utf-8")
    for found in re.finditer(r"^([a-z_]{7,}):", text, re.MULTILINE):
        middle = found.start() + len(found[1]) // 2
        yield text[:middle] + text[middle + 1 :]


@pytest.mark.parametrize("path", recipes.shipped(), ids=lambda path: path.stem)
def test_a_slip_of_the_keyboard_is_undone_to_the_byte(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    broken = list(slips(path))
    back = [mend(slip, str(path)).text for slip in broken]
    undone = [after for after in back if after == text]
    assert len(undone) >= 0.9 * len(broken) >= 9
    # Where the fix is not certain, nothing happens at all.
    assert all(after in (text, before) for before, after in zip(broken, back, strict=True))


@pytest.mark.parametrize("unsafe", [False, True], ids=["safe", "unsafe"])
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_of_any_broken_recipe_something_readable_is_left(path: Path, unsafe: bool) -> None:
    document = source.read(path)
    before = {p for p in validate(recipes.from_document(document)) if p.fix}
    found = mend(document.text, document.file, unsafe=unsafe)
    after = source.parse(found.text, document.file)
    assert (after.value is None) == (document.value is None)
    assert mend(found.text, document.file, unsafe=unsafe).text == found.text
    assert bool(found.fixed) == (found.text != document.text)
    assert {p.code for p in found.fixed if not p.fix or not p.fix.safe} == set() or unsafe
    kept = [line for line in document.text.splitlines() if line.lstrip().startswith("#")]
    if not unsafe:
        assert [line for line in found.text.splitlines() if line in kept] == kept
    assert len(found.fixed) >= len([p for p in before if p.fix and p.fix.safe]) * 0.5


def test_equal_values_means_what_the_recipe_says_stays() -> None:
    text = HEAD + "seed: 1\n" + DATA + "seed: 0x1\n"
    assert yaml.safe_load(mended(text)) == yaml.safe_load(text)
    assert mended(HEAD + DATA + "bf16: true\nbf16: 1\n") == HEAD + DATA + "bf16: true\nbf16: 1\n"


def test_a_fix_may_show_what_it_hid() -> None:
    text = HEAD + DATA + "flash_attentoin: true\nsample_packing: true\n"
    assert "attn_implementation: flash_attention_2\n" in mended(text)


def test_fix_writes_the_file_and_tells_what_it_did(axr: Axr, tmp_path: Path) -> None:
    real, link = tmp_path / "real.yaml", tmp_path / "my.yaml"
    real.write_bytes(b"\xef\xbb\xbf" + (HEAD + DATA + "optimzer: adamw_torch\nqqq: 1\n").encode())
    real.chmod(0o640)
    link.symlink_to(real)
    shown = axr("validate", "my.yaml", "--diff")
    assert "+optimizer: adamw_torch" in shown.stdout
    assert shown.returncode == 1
    assert b"optimzer" in real.read_bytes()
    done = axr("validate", "my.yaml", "--fix")
    assert 'fixed my.yaml:7: unknown key "optimzer"' in done.stderr
    assert 'unknown key "qqq"' in done.stdout
    assert "axr validate my.yaml --diff --unsafe-fixes" in done.stderr
    assert done.returncode == 1
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert (
        real.read_bytes()
        == b"\xef\xbb\xbf" + (HEAD + DATA + "optimizer: adamw_torch\nqqq: 1\n").encode()
    )
    assert axr("validate", "my.yaml", "--fix", "--unsafe-fixes").returncode == 0
    assert axr("validate", "my.yaml", "--diff").returncode == 0


def test_fixing_nothing_writes_nothing(axr: Axr, tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text(HEAD + DATA, encoding="utf-8")
    os.utime(file, (1, 1))
    assert axr("validate", "my.yaml", "--fix").returncode == 0
    assert file.stat().st_mtime == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anything")
def test_a_folder_that_cannot_be_written_leaves_the_file(axr: Axr, tmp_path: Path) -> None:
    file = tmp_path / "sub" / "my.yaml"
    file.parent.mkdir()
    file.write_text(HEAD + DATA + "optimzer: adamw_torch\n", encoding="utf-8")
    file.parent.chmod(0o500)
    done = axr("validate", "sub/my.yaml", "--fix")
    file.parent.chmod(0o700)
    assert 'cannot write "sub/my.yaml"' in done.stderr
    assert done.returncode == 3
    assert "optimzer" in file.read_text(encoding="utf-8")


def test_a_secret_beside_a_change_is_not_shown(axr: Axr, tmp_path: Path) -> None:
    token = "hf_" + "Qq77" * 8
    file = tmp_path / "my.yaml"
    file.write_text(HEAD + DATA + f"optimzer: adamw_torch\nhub_token: {token}\n", encoding="utf-8")
    for flags in (("--diff",), ("--diff", "--unsafe-fixes"), ("--fix",)):
        done = axr("validate", "my.yaml", *flags)
        assert token not in done.stdout + done.stderr
    assert token in file.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--unsafe-fixes", "my.yaml"), "--unsafe-fixes goes with --fix or --diff"),
        (("--fix",), "--fix changes files: name them"),
        (("--fix", "--diff", "my.yaml"), "--diff changes nothing"),
        (("--gpu", "h200", "my.yaml"), "--gpu goes with --upstream"),
        (("--trust", "my.yaml"), "--trust goes with --upstream"),
    ],
)
def test_flags_that_do_not_go_together(axr: Axr, flags: tuple[str, ...], words: str) -> None:
    done = axr("validate", *flags)
    assert words in done.stderr
    assert done.returncode == 2
