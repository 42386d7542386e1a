"""How is a model tuned, and repaired? By a recipe, full or LoRA, with replay; by remedies."""
