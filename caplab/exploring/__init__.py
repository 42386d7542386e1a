"""What moves under the learner's hand? The Explorer: its controls, pictures and runs."""
