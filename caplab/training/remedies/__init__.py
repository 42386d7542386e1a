"""What helps after training: a walk back to the base, and a test of what is really lost."""

from caplab.training.remedies.blend import Blend, interpolate, scale_lora
from caplab.training.remedies.recovery import Recovered, Recovery, recovery

__all__ = ["Blend", "Recovered", "Recovery", "interpolate", "recovery", "scale_lora"]
