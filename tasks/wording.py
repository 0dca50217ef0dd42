"""How messages count: one search, two searches."""


def counted(number: int, noun: str) -> str:
    """The number with its noun, in the singular or the plural: `1 search`, `2 searches`, `1,000 memories`.

    Args:
        number: How many.
        noun: One of them; words before it stay: `finished search`.
    """
    return f"{number:,} {noun if number == 1 else plural(noun)}"


def plural(noun: str) -> str:
    """The plural of a regular English noun."""
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"
