"""All that one run of the yardstick found, as Markdown."""

from . import goals, tables
from .page import describe
from .results import Figures, Results

MUSTS = """\
The ratio of sluicegate's figure to that of the tutorial's design in the same round. First token: what each adds to
that of the provider alone. The memory row is measured in a process of its own in every round, after 40 short
requests."""
FRAMEWORKS = """\
The ratio of sluicegate's figure to that of the framework in the same round; not seen: the framework gave none, as
where it never closed an upstream."""
GUARDED = """\
An API key for each request, rates, numbers of runs at once and budgets that nobody reaches for key, model and day, a
line of log in JSON for each run, metrics and the spool, beside the service as it starts without settings (log, metrics
and spool), and beside an earlier commit."""
ALL = """\
Every target but the byte relays offers one tool, `get_weather`, which answers at once."""
PACED = """\
Milliseconds that the target adds to the provider alone: 64 streams of 50 tokens/s each, and 256 of 10 tokens/s
each, since 256 of 50 tokens/s are more than two cores carry together with provider and clients. A stream begins every
10 ms or so, which is part of the load."""
IDLE = """\
2,000 streams that have fallen silent in mid-reply, in a new process; CPU in a window of 15 s, in which each stream of
sluicegate gets a heartbeat."""
GOODPUT = """\
Runs of 20 tokens in 0.4 s that arrive by chance, whoever is still there, at multiples of the runs per second that 128
clients in a closed loop get through. A run is good if it is whole, its first token came within 1 s and no gap was over
1 s; late is a run that was whole but not good; refused is a 503. The first 3 s do not count."""
LENGTHS = """\
CPU µs per token of whole replies, one after another, as fast as they go; requests included, which weigh in short
ones. A dash where a reply was not whole. The slope is that of log cost over log length from 1,000 to 100,000 tokens:
1 is linear."""


def report(results: Results) -> str:
    """Return conditions and tables; a section that nothing was measured for is left out."""
    figures = Figures(results.samples, results.conditions.targets)
    sections = (
        ("Against the tutorial's design", MUSTS, goals.musts(figures)),
        ("Against Python frameworks", FRAMEWORKS, goals.frameworks(figures)),
        ("The other dialects", "The ratio to Chat Completions in the same round.", goals.dialects(figures)),
        ("Guarded and observed", GUARDED, goals.guarded(figures)),
        ("Every target", ALL, tables.columns(figures, tables.ALL)),
        ("Many streams: latency added", PACED, tables.columns(figures, tables.PACED)),
        ("Many streams: at rest", IDLE, tables.columns(figures, tables.IDLE)),
        ("More load than there is capacity", GOODPUT, tables.goodput(figures)),
        ("Short and long replies", LENGTHS, tables.lengths(figures)),
    )
    lines = describe(results, figures)
    for title, about, table in sections:
        if table:
            lines += ["", f"### {title}", ""]
            lines += [about, ""] if about else []
            lines += table
    return "\n".join(lines)
