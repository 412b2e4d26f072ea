"""How large a deployment may grow: formulas, a small simulation, and `docs/scale.md`."""
