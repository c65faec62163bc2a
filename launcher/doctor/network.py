"""Several nodes: that they meet."""

from __future__ import annotations

from launcher.diagnostics import Code, Severity
from launcher.doctor.line import Lines, bad, ok, unchecked
from launcher.doctor.need import Need
from launcher.survey import Facts

TAKEN = Code(
    "N311",
    "rendezvous-port-taken",
    Severity.ERROR,
    "The head cannot listen at the address where the nodes are to meet.\n\n"
    "The port is another's, or the address is not this machine's: all nodes wait until they time "
    "out.",
)
UNREACHED = Code(
    "N312",
    "head-unreachable",
    Severity.ERROR,
    "This node does not reach the head.\n\n"
    "The run stands at its start until it times out: a port that is shut, or an address of another "
    "network.",
)


def lines(facts: Facts, need: Need) -> Lines:
    """Yield what is to say of the meeting of the nodes."""
    if need.nodes < 2:
        if need.processes > 1:
            yield ok("rendezvous", "on this machine alone; axr takes a free port")
        return
    found = facts.head
    if found is None:
        yield unchecked("rendezvous", "say where the nodes meet: --head HOST:PORT")
        return
    where = f"{found.host}:{found.port}"
    if found.ok and found.rank == 0:
        yield ok("rendezvous", f"{where} is free on this machine, the head")
    elif found.ok:
        words = "something listens" if found.listening else "nothing listens yet"
        yield ok("rendezvous", f"the head answers at {where}, {words}")
    elif found.rank == 0:
        hint = f"take another: --head {found.host}:{found.port + 1}"
        yield bad("rendezvous", TAKEN, f"{where}: {found.why}", hint)
    else:
        hint = "open the port on the head, or use its address in the nodes' own network"
        yield bad("rendezvous", UNREACHED, f"{where} is not reached: {found.why}", hint)
