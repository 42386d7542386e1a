"""Write numbers, names and durations as the course does."""

__all__ = ["format_number", "format_percent", "format_signed", "has_lone_surrogate", "join_words"]


def has_lone_surrogate(text: str) -> bool:
    """Tell a text that holds half of a character: no encoding can write it."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def format_number(value: float, digits: int = 2) -> str:
    """Write a share without its leading zero; what is not 0 or 1 is never rounded to it."""
    value += 0.0  # no -.00
    text = f"{value:.{digits}f}"
    if 0 < abs(value) < 10**-digits:
        text = f"{value:.1g}"
    elif abs(value) < 1 <= abs(float(text)):
        text = f"{int(1000 * value) / 1000}"  # cut, not rounded
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def format_signed(value: float) -> str:
    """Write a change with its sign, small ones with one digit more: `-.49`, `-.033`."""
    text = format_number(value, digits=2 if abs(value) >= 0.1 or value == 0 else 3)
    return f"+{text}" if value > 0 else text


def join_words(names: list[str]) -> str:
    """Join names as a sentence does: `a, b and c`."""
    return " and ".join([*([", ".join(names[:-1])] if len(names) > 1 else []), *names[-1:]])


def format_rate(rate: float) -> str:
    """Write a learning rate as it is spoken of: 1e-3, 2.5e-4."""
    digits, _, exponent = f"{rate:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(exponent)}" if rate else "0"


def format_percent(share: float) -> str:
    """Write a share in percent."""
    return f"{100 * share:g} %"


def format_duration(seconds: float) -> str:
    """Write a duration for people."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
