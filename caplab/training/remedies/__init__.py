"""Repair a tuned model by moving it back towards its base, and test what it really lost."""

from caplab.training.remedies.blend import Blend, interpolate, scale_lora
from caplab.training.remedies.recovery import Recovered, Recovery, recovery

__all__ = ["Blend", "Recovered", "Recovery", "interpolate", "recovery", "scale_lora"]
