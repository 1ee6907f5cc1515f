"""Pure layer: dice as players type them: `parse` an expression, `roll` it with dice drawn elsewhere."""

from .grammar import MAX_DICE, MAX_LENGTH, MAX_SIDES, Parsed, parse
from .throwing import Draw, roll

__all__ = ["MAX_DICE", "MAX_LENGTH", "MAX_SIDES", "Draw", "Parsed", "parse", "roll"]
