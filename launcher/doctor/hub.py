"""The Hub: the token, the right to read these repositories and to write that one, the speed."""

from __future__ import annotations

from launcher import hub as hubs
from launcher.diagnostics import Code, Severity, Span
from launcher.doctor.line import Line, Lines, bad, gib, ok, unchecked
from launcher.doctor.need import Need
from launcher.hub import Access, Account, Endpoint, Hub, Repository
from launcher.survey import Facts

SILENT = Code(
    "N401",
    "hub-does-not-answer",
    Severity.WARNING,
    "The Hub, or what HF_ENDPOINT names, does not answer.\n\n"
    "What is not in the cache on this machine cannot be downloaded, and nothing can be pushed.",
)
BAD_TOKEN = Code(
    "N402",
    "token-refused",
    Severity.ERROR,
    "The Hub does not know the token, or it is expired.\n\n"
    "With a bad token even public repositories are refused.",
)
NO_TOKEN = Code(
    "N403",
    "token-missing",
    Severity.ERROR,
    "The run pushes to the Hub, and there is no token.\n\n"
    "axolotl makes the repository after the model is loaded, and dies there.",
)
GATED = Code(
    "N404",
    "gated-repository",
    Severity.ERROR,
    "A repository wants its terms to be accepted, or a token that may read gated ones.\n\n"
    "The download fails with 401 or 403 (GatedRepoError).",
)
ABSENT = Code(
    "N405",
    "repository-missing",
    Severity.ERROR,
    "The Hub has no such repository for this token: it is misspelt, private, or gone.",
)
NO_WRITING = Code(
    "N406",
    "cannot-push",
    Severity.ERROR,
    "The token may not write to the repository that the run pushes to.\n\n"
    "403 on /api/repos/create after the model is loaded, or at the very end: the model is then "
    "lost with the machine.",
)
SLOW = Code(
    "N407",
    "hub-slow",
    Severity.WARNING,
    "Downloads are slow: the GPUs are paid for while the model comes.\n\n"
    "On some hosts hf_xet, which downloads in pieces, is slow or stands still for an hour without "
    "an error; without it the plain way is taken.",
)
LIMITED = Code(
    "N408",
    "hub-refuses-for-now",
    Severity.WARNING,
    "The Hub answers that it is asked too often, or has trouble of its own (429, 5xx).",
)
NO_SPLIT = Code(
    "N409",
    "split-missing",
    Severity.ERROR,
    "The dataset's card lists its splits, and the recipe's is not among them.\n\n"
    "The run dies after the download.",
)
SLOWEST = 10e6  # bytes a second of one connection
LONGEST = 20 * 60  # seconds for the model
TOKENS = "https://huggingface.co/settings/tokens"


def lines(facts: Facts, need: Need) -> Lines:
    """Yield what is to say of the Hub."""
    found = facts.hub
    if found is None or found.endpoint.why == hubs.NOT_INSTALLED:
        yield unchecked("Hub", found.endpoint.why if found else "not asked")
        return
    if not found.endpoint.answered:
        yield _silent(found.endpoint)
        if not any(one.state != hubs.UNKNOWN for one in found.access):
            for repository in found.access:
                yield unchecked(repository.kind, f"{repository.name}: the Hub does not answer")
            return
    else:
        yield _endpoint(found.endpoint, need)
    yield _account(found.account, need)
    refused = found.account.state in (hubs.REFUSED, hubs.EXPIRED)
    for one in need.reads:
        access = found.of(one.kind, one.name)
        if access and not (refused and access.state == hubs.UNKNOWN):
            has_token = found.account.state != hubs.NONE
            yield _readable(access, need, has_token=has_token)
            yield from _split(access, need)
    for one in need.writes:
        yield _writable(one, found, need)


def _silent(endpoint: Endpoint) -> Line:
    words = f"{endpoint.url} does not answer: {endpoint.why}"
    if endpoint.why.startswith("HTTP"):
        return bad("Hub", LIMITED, f"{endpoint.url}: {endpoint.why}", "try again in some minutes")
    hint = "with all in the cache: export HF_HUB_OFFLINE=1\nleave this out: axr doctor --offline"
    return bad("Hub", SILENT, words, hint)


def _endpoint(endpoint: Endpoint, need: Need) -> Line:
    words = f"{endpoint.url} answers in {endpoint.seconds or 0:.1f} s"
    if endpoint.speed is None:
        return ok("Hub", words)
    words += f", one connection brings {endpoint.speed / 1e6:.0f} MB/s"
    size = max(0.0, need.forecast.disk.model - need.cached) if need.forecast else 0.0
    takes = size / endpoint.speed
    words += f": {gib(size)} in {takes / 60:.0f} min" if takes > 60 else ""
    if endpoint.speed < SLOWEST or takes > LONGEST:
        hint = "if the download stands still: export HF_HUB_DISABLE_XET=1\nelse: another machine"
        return bad("Hub", SLOW, words, hint)
    return ok("Hub", words)


def _account(account: Account, need: Need) -> Line:
    if account.state == hubs.NONE:
        if need.writes:
            hint = f"make one that may write ({TOKENS}), and set HF_TOKEN, in .env or exported"
            words = f"no token, and the run pushes to {need.writes[0].name}"
            return bad("token", NO_TOKEN, words, hint, need.span("hub_model_id"))
        return ok("token", "none: public repositories only")
    if account.state in (hubs.REFUSED, hubs.EXPIRED):
        what = "expired" if account.state == hubs.EXPIRED else "not known to the Hub"
        hint = f"make a new one: {TOKENS}\nor go without: unset HF_TOKEN"
        return bad("token", BAD_TOKEN, f"the token is {what}", hint)
    if account.state != hubs.VALID:
        return unchecked("token", account.why or "no answer")
    return ok("token", f"{account.name}'s, {_role(account)}")


def _role(account: Account) -> str:
    roles = {"write": "it may write", "read": "it may only read", "fineGrained": "fine-grained"}
    return roles.get(account.role, f"role {account.role or 'not said'}")


def _readable(access: Access, need: Need, *, has_token: bool) -> Line:
    subject, name, span = access.kind, access.name, place(access.name, need)
    address = f"https://huggingface.co/{'datasets/' * (access.kind == 'dataset')}{access.name}"
    match access.state:
        case hubs.OPEN:
            return ok(subject, f"{name} can be read")
        case hubs.GATED:
            hint = f"accept the terms with the token's account: {address}"
            if not has_token:
                hint = f"accept the terms: {address}\nthen set HF_TOKEN, in .env or exported"
            return bad(subject, GATED, f'"{name}" is gated', hint, span)
        case hubs.CLOSED:
            hint = f"give the token the right to read gated repositories: {TOKENS}"
            words = f'this token may not read "{name}" ({access.why})'
            return bad(subject, GATED, words, hint, span)
        case hubs.MISSING:
            why = access.why or "or it is private, and this token may not see it"
            hint = f"look at {address}, correct the name, or use a token that may read it"
            words = f'the Hub has no {access.kind} "{name}", {why}'
            return bad(subject, ABSENT, words, hint, span)
    return unchecked(subject, f"{name}: {access.why or 'no answer'}")


def _split(access: Access, need: Need) -> Lines:
    """Yield the splits of a dataset that its card does not list."""
    for key in ("datasets", "test_datasets"):
        for index, entry in enumerate(need.settings.get(key) or []):
            if not isinstance(entry, dict) or entry.get("path") != access.name:
                continue
            name = str(entry.get("split") or "").partition("[")[0].strip()
            if not name or "+" in name or not access.splits or name in access.splits:
                continue
            words = f'"{access.name}" has no split "{name}"'
            hint = f"split: {access.splits[0]}  # it has {', '.join(access.splits)}"
            span = need.recipe.value_span(key, str(index), "split") if need.recipe else None
            yield bad("dataset", NO_SPLIT, words, hint, span)


def _writable(one: Repository, found: Hub, need: Need) -> Line:
    """Return whether the run may push: to a repository that is there, or that it will make."""
    subject, account = "push", found.account
    access = found.of_writing(one.kind, one.name)
    key = "hub_model_id" if one.kind == "model" else "push_dataset_to_hub"
    span = need.recipe.value_span(key) if need.recipe else None
    owner, slash, _ = one.name.partition("/")
    if account.state != hubs.VALID:
        unknown = account.state == hubs.UNKNOWN
        return unchecked(subject, account.why or "no answer" if unknown else "no valid token")
    if access and access.write:
        return ok(subject, f"{one.name} is there, and the token may write to it")
    if account.role == "read":
        hint = f"make a token that may write: {TOKENS}"
        words = f"{one.name}: the token may only read"
        return bad(subject, NO_WRITING, words, hint, span)
    known = {account.name, *account.orgs}
    if slash and owner not in known:
        words = f'"{owner}" is neither {account.name} nor an organisation where it may write'
        hint = f"{key}: {account.name}/{one.name.partition('/')[2]}"
        return bad(subject, NO_WRITING, words, hint, span)
    scope = {one.name, owner if slash else account.name}
    if account.role == "fineGrained" and not scope & {*account.writes}:
        words = f"{one.name}: the fine-grained token has no right to write there"
        return bad(subject, NO_WRITING, words, f"give it write access: {TOKENS}", span)
    if access and access.write is False:
        words = f"{one.name}: the token may not write to it: {access.why}"
        return bad(subject, NO_WRITING, words, f"{key}: {account.name}/...", span)
    if access and access.state == hubs.MISSING:
        return ok(subject, f"{one.name} will be made; the token may")
    return unchecked(subject, access.why if access else "no answer")


def place(name: str, need: Need) -> Span | None:
    """Return where the recipe names a repository."""
    if need.recipe is None:
        return None
    for key, value in need.settings.items():
        if value == name:
            return need.recipe.value_span(key)
        for index, entry in enumerate(value if isinstance(value, list) else []):
            if isinstance(entry, dict) and entry.get("path") == name:
                return need.recipe.value_span(key, str(index), "path")
    return None
