"""Files as large as one may be, of the shapes that take longest."""

from __future__ import annotations

from launcher.source import MAX_BYTES

START = "base_model: a\nlearning_rate: 1.0e-5\n"


def filled(unit: str, head: str = START) -> str:
    """Repeat a line with a number in it until the file is as large as one may be."""
    count = (MAX_BYTES - len(head)) // len(unit.format(10000))
    return head + "".join(unit.format(10000 + number) for number in range(count))


SLOW = {
    "misspelt keys": filled("lora_r_{}: 1\n"),
    "one long key": f"{START}? {'lora_r' * 20000}\n: 1\n",
    "data sets": filled(" - path: x{}.json\n", f"{START}rl: dpo\ntest_datasets:\n"),
    "keys of a data set": filled("   k{}: 1\n", f"{START}datasets:\n - path: a\n   type: alpaca\n"),
    "plugins": filled("- a.b{}\n", f"{START}plugins:\n"),
    "secrets": filled("hub_token{}: abcdefghij\n"),
    "tokens": f"{START}seed: {'hf_aaaaaaaaaaaaaaa ' * 6000}",
    "assignments": f"{START}seed: '{'token= ' * 17000}'",
    "aliases of a long text": f"{START}x: &a {'${HOME}' * 7000}\ny: [{'*a,' * 20000}]",
    "aliases of a data set": f"{START}a: &a {{path: b}}\ndatasets: [{'*a,' * 40000}]",
    "base 60": f"{START}seed: 1{':00' * 40000}",
    "base 16": f"{START}base_model: 0x{'f' * 120000}",
}
