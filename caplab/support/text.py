"""Format numbers, names and durations in the course's style: `.49`, `2.5e-4`, `a, b and c`."""

__all__ = [
    "format_duration",
    "format_number",
    "format_percent",
    "format_rate",
    "format_signed",
    "has_lone_surrogate",
    "join_words",
]


def has_lone_surrogate(text: str) -> bool:
    """Check for a lone surrogate, half a character: no encoding can write it."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def format_number(value: float, digits: int = 2) -> str:
    """Format a share without its leading zero: `.49`; only 0 and 1 are ever shown as 0 and 1."""
    value += 0.0  # turns -0.0 into 0.0
    text = f"{value:.{digits}f}"
    if 0 < abs(value) < 10**-digits:
        text = f"{value:.1g}"
    elif abs(value) < 1 <= abs(float(text)):
        text = f"{int(1000 * value) / 1000}"  # cut, not rounded
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def format_signed(value: float) -> str:
    """Format a change with its sign, a small one with one digit more: `-.49`, `-.033`."""
    text = format_number(value, digits=2 if abs(value) >= 0.1 or value == 0 else 3)
    return f"+{text}" if value > 0 else text


def join_words(names: list[str]) -> str:
    """Join names as in a sentence: `a, b and c`."""
    return " and ".join([*([", ".join(names[:-1])] if len(names) > 1 else []), *names[-1:]])


def format_rate(rate: float) -> str:
    """Format a learning rate as people write it: 1e-3, 2.5e-4."""
    digits, _, exponent = f"{rate:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(exponent)}" if rate else "0"


def format_percent(share: float) -> str:
    """Format a share in percent: `2.5 %`."""
    return f"{100 * share:g} %"


def format_duration(seconds: float) -> str:
    """Format a duration in a unit that fits: seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
