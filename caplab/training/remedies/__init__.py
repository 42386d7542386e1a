"""Repair a tuned model with the help of its base, and test what it really lost."""

from caplab.training.remedies.blend import Blend, interpolate, scale_lora
from caplab.training.remedies.distillation import distill
from caplab.training.remedies.recovery import Recovered, Recovery, recovery

__all__ = ["Blend", "Recovered", "Recovery", "distill", "interpolate", "recovery", "scale_lora"]
