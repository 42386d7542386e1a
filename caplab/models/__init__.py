"""Which model is it? Load a language model and its tokenizer as a `Subject`."""
