"""The `Recipe`: every choice that decides a run, checked and hashed."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from operator import index
from typing import Any, Literal, NoReturn, Self, get_args

from caplab.support.errors import BadInput, as_number, did_you_mean, short_repr
from caplab.support.files import from_json
from caplab.support.text import format_rate

__all__ = ["Anchor", "Loss", "Method", "Optimizer", "Recipe", "ReplaySource", "Schedule", "Variant"]

Method = Literal["full", "lora"]
Schedule = Literal["linear", "cosine", "constant"]
ReplaySource = Literal["original", "self"]
Anchor = Literal["kl", "l2"]
Loss = Literal["nll", "dft"]
Variant = Literal["lora", "rslora", "dora"]
Optimizer = Literal["adamw", "muon"]

_FORMAT = 1  # of the JSON and of what is hashed; raise it when a field changes its meaning


@dataclass(frozen=True, kw_only=True, repr=False)
class Recipe:
    """Everything that decides a fine-tuning run; the same recipe gives the same weights.

    `rank`, `alpha`, `target_modules`, `dropout` and `variant` belong to LoRA and do nothing in a
    full fine-tuning. `replay` is the share of examples that are old text; `examples` limits the
    task to so many rows, chosen at random. Of chat messages every turn is learned; with
    `assistant_only` only the assistant's turns are.

    `anchor` pulls towards the base while training: "kl" keeps what the model says about old texts,
    which `anchor_data` names as `replay_source` does; "l2" keeps its weights. `loss="dft"` learns
    less from tokens that the model finds unlikely. `average` is the share that a running average of
    the weights keeps at each step, from the base on; the run ends with the average.
    """

    method: Method = "full"
    learning_rate: float = 1e-3
    steps: int = 60
    batch_size: int = 8
    schedule: Schedule = "constant"
    warmup: int = 0
    weight_decay: float = 0.0
    rank: int = 8
    alpha: int = 32
    target_modules: str | tuple[str, ...] = "all-linear"
    dropout: float = 0.0
    replay: float = 0.0
    replay_source: ReplaySource = "original"
    examples: int | None = None
    seed: int = 0
    assistant_only: bool = False
    anchor: Anchor | None = None
    anchor_strength: float = 1.0
    anchor_data: ReplaySource = "original"
    loss: Loss = "nll"
    variant: Variant = "lora"
    optimizer: Optimizer = "adamw"
    average: float = 0.0

    def __new__(cls, *unnamed: object, **given: object) -> Self:
        """Refuse unknown names with a hint, before the dataclass refuses them without one."""
        if unnamed:
            value = short_repr(unnamed[0])
            raise BadInput(f'Name what you give: Recipe(method="full"), not Recipe({value}).')
        _refuse_unknown(given)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name, rule in _RULES.items():
            object.__setattr__(self, name, rule(name, getattr(self, name)))
        if self.warmup > self.steps:
            _refuse("warmup", self.warmup, f"at most steps, which is {self.steps}")
        if self.anchor == "l2" and self.method == "lora" and self.variant == "dora":
            _refuse("anchor", "l2", "'kl' or None with DoRA, whose change is no plain product")

    def change(self, **changes: Any) -> Self:
        """Return the same recipe with some fields changed."""
        _refuse_unknown(changes)
        return replace(self, **changes)

    def to_json(self) -> str:
        """Write the recipe as JSON."""
        return json.dumps({"format": _FORMAT, **self.to_dict()})

    def to_dict(self) -> dict[str, Any]:
        """Return every field; one that came later only where it differs from its default.

        So the recipes of older runs keep their hashes.
        """
        later = [field for field in fields(self) if field.name in _LATER]
        unchanged = {field.name for field in later if getattr(self, field.name) == field.default}
        return {name: value for name, value in asdict(self).items() if name not in unchanged}

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote; a missing field gets its default."""
        wrong = f"This is not a recipe in JSON: {short_repr(text)}"
        try:
            given = from_json(text)
        except (BadInput, TypeError) as error:
            raise BadInput(f"{wrong} ({error}).") from error
        if not isinstance(given, dict):
            raise BadInput(f"{wrong}.")
        if (version := given.pop("format", _FORMAT)) != _FORMAT:
            raise BadInput(
                f"The recipe has format {short_repr(version)}, this caplab reads {_FORMAT}. "
                "Update caplab."
            )
        return cls(**given)

    @property
    def hash(self) -> str:
        """Name the recipe in 12 characters, the same on every machine and in every version."""
        canonical = json.dumps({"format": _FORMAT, **self.to_dict()}, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def __repr__(self) -> str:
        """Show method, learning rate and whatever else differs from the defaults."""
        shown = [
            f"{field.name}={_written(field.name, getattr(self, field.name))}"
            for field in fields(self)
            if field.name in _ALWAYS_SHOWN or getattr(self, field.name) != field.default
        ]
        return f"Recipe({', '.join(shown)})"


def _written(name: str, value: Any) -> str:
    """Write a value as Python reads it; a rate as people write it, unless that would round it."""
    short = format_rate(value) if name == "learning_rate" else ""
    return short if short and float(short) == value else repr(value)


_ALWAYS_SHOWN = ("method", "learning_rate")
# Fields that the first recipes did not have.
_LATER = [
    *("assistant_only", "anchor", "anchor_strength", "anchor_data"),
    *("loss", "variant", "optimizer", "average"),
]


def _refuse(name: str, value: object, wanted: str, advice: str = "") -> NoReturn:
    """Raise `BadInput`: what was wrong, what was given and what to do."""
    raise BadInput(
        f"{name} must be {wanted}; you gave {short_repr(value)}.{advice and ' ' + advice}"
    )


def _refuse_unknown(given: Iterable[str]) -> None:
    """Refuse names that no field has, and suggest the one that was meant."""
    known = [field.name for field in fields(Recipe)]
    for name in given:
        if name not in known:
            near = _SYNONYMS.get(name)
            hint = f" Did you mean {near!r}?" if near else did_you_mean(name, known)
            raise BadInput(f"A recipe has no {short_repr(name)}.{hint} It has: {', '.join(known)}.")


# Names that other libraries give to the same things.
_SYNONYMS = {
    "lr": "learning_rate",
    "r": "rank",
    "lora_r": "rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "max_steps": "steps",
    "per_device_train_batch_size": "batch_size",
    "lr_scheduler_type": "schedule",
    "optim": "optimizer",
    "loss_type": "loss",
    "ema": "average",
    "ema_decay": "average",
    "warmup_steps": "warmup",
}

_Rule = Callable[[str, Any], Any]


def _number(wanted: str, allowed: Callable[[float], bool], advice: str = "") -> _Rule:
    """Make the rule of a field that holds a number."""

    def rule(name: str, value: Any) -> float:
        number = as_number(value)
        if not (number < float("inf") and allowed(number)):
            _refuse(name, value, wanted, advice)
        return number + 0.0  # -0.0 becomes 0.0, so that equal recipes have equal hashes

    return rule


def _count(least: int, advice: str = "", *, most: int = 10**9, or_none: bool = False) -> _Rule:
    """Make the rule of a field that holds a whole number."""
    wanted = f"a whole number from {least} to {most}" + (" or None" if or_none else "")

    def rule(name: str, value: Any) -> int | None:
        if value is None and or_none:
            return None
        try:  # `index` takes numpy's whole numbers as well
            count = least - 1 if isinstance(value, bool) else index(value)
        except TypeError:
            count = least - 1
        if not least <= count <= most:
            _refuse(name, value, wanted, advice)
        return count

    return rule


def _one_of(choices: Any, *, or_none: bool = False) -> _Rule:
    """Make the rule of a field that holds one of a few words."""

    def rule(name: str, value: Any) -> str | None:
        if value is None and or_none:
            return None
        words = get_args(choices)
        if not isinstance(value, str) or value not in words:
            _refuse(name, value, " or ".join([*map(repr, words), *["None"] * or_none]))
        return str(value)

    return rule


def _yes_or_no(name: str, value: Any) -> bool:
    """Check a field that holds True or False."""
    if not isinstance(value, bool):
        _refuse(name, value, "True or False")
    return value


def _modules(name: str, value: Any) -> str | tuple[str, ...]:
    """Check LoRA's target modules: one of three keywords, or the names of modules."""
    if isinstance(value, str):
        if value in ("all-linear", "attention", "mlp"):
            return value
        value = (value,)
    names = tuple(value) if isinstance(value, Iterable) else ()
    if not names or not all(isinstance(each, str) and each for each in names):
        _refuse(name, value, "'all-linear', 'attention', 'mlp' or a tuple such as ('c_attn',)")
    return names


_RULES: dict[str, _Rule] = {
    "method": _one_of(Method),
    "learning_rate": _number(
        "a number from 0 on", lambda rate: rate >= 0, "Usual rates lie between 1e-5 and 1e-2."
    ),
    "steps": _count(1, "A step is one update of the weights."),
    "batch_size": _count(1, "It is how many examples one step reads."),
    "schedule": _one_of(Schedule),
    "warmup": _count(0, "It counts the steps in which the learning rate rises."),
    "weight_decay": _number("a number from 0 on", lambda decay: decay >= 0),
    "rank": _count(1, "With rank 0 LoRA has nothing to train; 4 to 32 are usual."),
    "alpha": _count(1, "Twice the rank is usual."),
    "target_modules": _modules,
    "dropout": _number("a share from 0 up to, but not, 1", lambda share: 0 <= share < 1),
    "replay": _number(
        "a share from 0 to 1", lambda share: 0 <= share <= 1, "For 10 % old text write 0.1."
    ),
    "replay_source": _one_of(ReplaySource),
    "examples": _count(1, "None takes the whole task.", or_none=True),
    "seed": _count(0, "Any such number will do: 0, 1, 2 ...", most=2**32 - 1),
    "assistant_only": _yes_or_no,
    "anchor": _one_of(Anchor, or_none=True),
    "anchor_strength": _number("a number above 0", lambda strength: strength > 0),
    "anchor_data": _one_of(ReplaySource),
    "loss": _one_of(Loss),
    "variant": _one_of(Variant),
    "optimizer": _one_of(Optimizer),
    "average": _number(
        "a share from 0 up to, but not, 1", lambda share: 0 <= share < 1, "Usual is 0.99."
    ),
}
