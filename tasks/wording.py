"""How messages count: one search, two searches."""


def counted(number: int, one: str, many: str | None = None) -> str:
    """The number with its noun, in the singular or the plural: `1 search`, `2 searches`, `1,000 memories`.

    Args:
        number: How many.
        one: What follows 1, such as `finished search` or `search is`.
        many: What follows other numbers, such as `searches are`; None: the plural of `one`, a regular noun.
    """
    return f"{number:,} {one if number == 1 else many or _plural(one)}"


def _plural(noun: str) -> str:
    if noun.endswith(("s", "x", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"
