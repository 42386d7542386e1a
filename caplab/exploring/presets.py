"""The experiments that the Explorer offers, and the values of each slider."""

from caplab.exploring.state import Preset
from caplab.training.recipe import Recipe

__all__ = ["COURSE", "PRESETS", "STOPS"]

# The course trains at a constant rate: 40 steps are then the first of 100, also in the atlas.
COURSE = Recipe(learning_rate=2e-3, steps=60, schedule="constant", rank=8, alpha=32)

PRESETS = {
    "first_look": Preset(
        "First look: what does it forget?",
        "Move the learning rate. When you let go, the model is trained before your eyes.",
        ("learning_rate", "steps"),
        COURSE,
    ),
    "full_vs_lora": Preset(
        "Full fine-tuning or LoRA?",
        "Train with one method and pin it. Switch, and move the rate until the task is as good.",
        ("method", "learning_rate", "rank"),
        COURSE.change(learning_rate=1e-3),
    ),
    "learning_rate": Preset(
        "How fast is too fast?",
        "Find the largest learning rate, or the last step, that stays above the budget line.",
        ("method", "learning_rate", "steps", "seed", "budget"),
        COURSE.change(learning_rate=1e-3),
    ),
    "replay": Preset(
        "A little of the old among the new",
        "Pin a run without replay. Then mix in old texts: how few are enough?",
        ("replay", "replay_source", "learning_rate"),
        COURSE,
    ),
    "in_turn": Preset(
        "The second job",
        "The model has a job already, and its exam stands among the classics. Teach it another.",
        ("learning_rate", "replay", "method"),
        COURSE.change(learning_rate=1e-3),
    ),
    "guard": Preset(
        "A guard that watches",
        "Give the guard a budget and something to do when it is crossed; then let it watch.",
        ("action", "budget", "every", "learning_rate"),
        COURSE,
        guards=True,
    ),
    "interpolate": Preset(
        "Halfway back",
        "Press Run. Then walk from the base to the tuned model: nothing is trained any more.",
        ("alpha", "method", "learning_rate", "budget"),
        COURSE,
        walks=True,
    ),
}

# The values of each slider. Those of a recipe are in the atlas, so that each has a band at once.
STOPS: dict[str, tuple[float, ...]] = {
    "learning_rate": (1e-5, 3e-5, 1e-4, 3e-4, 5e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2),
    "steps": (20, 40, 60, 80, 100),
    "rank": (1, 2, 4, 8, 16, 32),
    "seed": (0, 1, 2, 3, 4),
    "replay": (0.0, 0.01, 0.05, 0.1, 0.25, 0.5),
    "budget": (0.01, 0.02, 0.05, 0.1, 0.2),
    "every": (5, 10, 20),
    "alpha": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
}
