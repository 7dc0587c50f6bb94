"""What many schedules came to, in a few lines."""

from collections import Counter


def in_words(total: Counter[str]) -> str:
    """``total`` is the sum of what the schedules counted."""
    count = total["schedules"]
    means = ", ".join(f"{total[name] / count:.1f} {name}" for name in ("events", "transactions", "attempts"))
    sums = ", ".join(f"{number} {name}" for name, number in sorted(total.items()))
    return f"{count} schedules; each on average {means}. In all: {sums}."
